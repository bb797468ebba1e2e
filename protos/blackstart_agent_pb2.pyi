from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Status(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STATUS_UNSPECIFIED: _ClassVar[Status]
    STATUS_DONE: _ClassVar[Status]
    STATUS_REFUSED: _ClassVar[Status]
    STATUS_INVALID: _ClassVar[Status]
    STATUS_FAILED: _ClassVar[Status]
    STATUS_EXPIRED: _ClassVar[Status]
    STATUS_STRANDED: _ClassVar[Status]
STATUS_UNSPECIFIED: Status
STATUS_DONE: Status
STATUS_REFUSED: Status
STATUS_INVALID: Status
STATUS_FAILED: Status
STATUS_EXPIRED: Status
STATUS_STRANDED: Status

class EnrolRequest(_message.Message):
    __slots__ = ("token", "agent_id", "csr_pem")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    AGENT_ID_FIELD_NUMBER: _ClassVar[int]
    CSR_PEM_FIELD_NUMBER: _ClassVar[int]
    token: str
    agent_id: str
    csr_pem: bytes
    def __init__(self, token: _Optional[str] = ..., agent_id: _Optional[str] = ..., csr_pem: _Optional[bytes] = ...) -> None: ...

class CertificateRequest(_message.Message):
    __slots__ = ("csr_pem",)
    CSR_PEM_FIELD_NUMBER: _ClassVar[int]
    csr_pem: bytes
    def __init__(self, csr_pem: _Optional[bytes] = ...) -> None: ...

class Certificate(_message.Message):
    __slots__ = ("certificate_pem", "ca_pem", "not_after_s")
    CERTIFICATE_PEM_FIELD_NUMBER: _ClassVar[int]
    CA_PEM_FIELD_NUMBER: _ClassVar[int]
    NOT_AFTER_S_FIELD_NUMBER: _ClassVar[int]
    certificate_pem: bytes
    ca_pem: bytes
    not_after_s: int
    def __init__(self, certificate_pem: _Optional[bytes] = ..., ca_pem: _Optional[bytes] = ..., not_after_s: _Optional[int] = ...) -> None: ...

class AgentMessage(_message.Message):
    __slots__ = ("sequence", "hello", "heartbeat", "result", "event", "telemetry")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    HELLO_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    TELEMETRY_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    hello: Hello
    heartbeat: Heartbeat
    result: Result
    event: Event
    telemetry: Telemetry
    def __init__(self, sequence: _Optional[int] = ..., hello: _Optional[_Union[Hello, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., result: _Optional[_Union[Result, _Mapping]] = ..., event: _Optional[_Union[Event, _Mapping]] = ..., telemetry: _Optional[_Union[Telemetry, _Mapping]] = ...) -> None: ...

class ControllerMessage(_message.Message):
    __slots__ = ("welcome", "heartbeat_reply", "order", "ack")
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_REPLY_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    ACK_FIELD_NUMBER: _ClassVar[int]
    welcome: Welcome
    heartbeat_reply: HeartbeatReply
    order: Order
    ack: Ack
    def __init__(self, welcome: _Optional[_Union[Welcome, _Mapping]] = ..., heartbeat_reply: _Optional[_Union[HeartbeatReply, _Mapping]] = ..., order: _Optional[_Union[Order, _Mapping]] = ..., ack: _Optional[_Union[Ack, _Mapping]] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("agent_id", "agent_version", "boot_id", "spool_id", "labels", "capabilities", "series", "monotonic_ns", "wall_ns", "effects_json")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    AGENT_ID_FIELD_NUMBER: _ClassVar[int]
    AGENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    BOOT_ID_FIELD_NUMBER: _ClassVar[int]
    SPOOL_ID_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    CAPABILITIES_FIELD_NUMBER: _ClassVar[int]
    SERIES_FIELD_NUMBER: _ClassVar[int]
    MONOTONIC_NS_FIELD_NUMBER: _ClassVar[int]
    WALL_NS_FIELD_NUMBER: _ClassVar[int]
    EFFECTS_JSON_FIELD_NUMBER: _ClassVar[int]
    agent_id: str
    agent_version: str
    boot_id: str
    spool_id: str
    labels: _containers.ScalarMap[str, str]
    capabilities: _containers.RepeatedCompositeFieldContainer[Capability]
    series: _containers.RepeatedCompositeFieldContainer[SeriesInfo]
    monotonic_ns: int
    wall_ns: int
    effects_json: bytes
    def __init__(self, agent_id: _Optional[str] = ..., agent_version: _Optional[str] = ..., boot_id: _Optional[str] = ..., spool_id: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., capabilities: _Optional[_Iterable[_Union[Capability, _Mapping]]] = ..., series: _Optional[_Iterable[_Union[SeriesInfo, _Mapping]]] = ..., monotonic_ns: _Optional[int] = ..., wall_ns: _Optional[int] = ..., effects_json: _Optional[bytes] = ...) -> None: ...

class Capability(_message.Message):
    __slots__ = ("family", "kind", "available", "missing", "undo")
    FAMILY_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    AVAILABLE_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    UNDO_FIELD_NUMBER: _ClassVar[int]
    family: str
    kind: str
    available: bool
    missing: str
    undo: str
    def __init__(self, family: _Optional[str] = ..., kind: _Optional[str] = ..., available: bool = ..., missing: _Optional[str] = ..., undo: _Optional[str] = ...) -> None: ...

class SeriesInfo(_message.Message):
    __slots__ = ("id", "name", "unit")
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    id: int
    name: str
    unit: str
    def __init__(self, id: _Optional[int] = ..., name: _Optional[str] = ..., unit: _Optional[str] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("epoch", "heartbeat_s", "lease_s", "acknowledged", "stopped")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_S_FIELD_NUMBER: _ClassVar[int]
    LEASE_S_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGED_FIELD_NUMBER: _ClassVar[int]
    STOPPED_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    heartbeat_s: float
    lease_s: float
    acknowledged: int
    stopped: bool
    def __init__(self, epoch: _Optional[int] = ..., heartbeat_s: _Optional[float] = ..., lease_s: _Optional[float] = ..., acknowledged: _Optional[int] = ..., stopped: bool = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ("sent_ns", "last_sent_ns", "last_controller_received_ns", "last_controller_sent_ns", "last_received_ns", "spooled", "dropped", "effects")
    SENT_NS_FIELD_NUMBER: _ClassVar[int]
    LAST_SENT_NS_FIELD_NUMBER: _ClassVar[int]
    LAST_CONTROLLER_RECEIVED_NS_FIELD_NUMBER: _ClassVar[int]
    LAST_CONTROLLER_SENT_NS_FIELD_NUMBER: _ClassVar[int]
    LAST_RECEIVED_NS_FIELD_NUMBER: _ClassVar[int]
    SPOOLED_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    EFFECTS_FIELD_NUMBER: _ClassVar[int]
    sent_ns: int
    last_sent_ns: int
    last_controller_received_ns: int
    last_controller_sent_ns: int
    last_received_ns: int
    spooled: int
    dropped: int
    effects: int
    def __init__(self, sent_ns: _Optional[int] = ..., last_sent_ns: _Optional[int] = ..., last_controller_received_ns: _Optional[int] = ..., last_controller_sent_ns: _Optional[int] = ..., last_received_ns: _Optional[int] = ..., spooled: _Optional[int] = ..., dropped: _Optional[int] = ..., effects: _Optional[int] = ...) -> None: ...

class HeartbeatReply(_message.Message):
    __slots__ = ("agent_sent_ns", "received_ns", "sent_ns", "epoch")
    AGENT_SENT_NS_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_NS_FIELD_NUMBER: _ClassVar[int]
    SENT_NS_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    agent_sent_ns: int
    received_ns: int
    sent_ns: int
    epoch: int
    def __init__(self, agent_sent_ns: _Optional[int] = ..., received_ns: _Optional[int] = ..., sent_ns: _Optional[int] = ..., epoch: _Optional[int] = ...) -> None: ...

class Order(_message.Message):
    __slots__ = ("id", "kind", "arguments_json", "epoch", "run_id", "actor", "deadline_s", "not_before_ns")
    ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    ARGUMENTS_JSON_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_S_FIELD_NUMBER: _ClassVar[int]
    NOT_BEFORE_NS_FIELD_NUMBER: _ClassVar[int]
    id: str
    kind: str
    arguments_json: bytes
    epoch: int
    run_id: str
    actor: str
    deadline_s: float
    not_before_ns: int
    def __init__(self, id: _Optional[str] = ..., kind: _Optional[str] = ..., arguments_json: _Optional[bytes] = ..., epoch: _Optional[int] = ..., run_id: _Optional[str] = ..., actor: _Optional[str] = ..., deadline_s: _Optional[float] = ..., not_before_ns: _Optional[int] = ...) -> None: ...

class Result(_message.Message):
    __slots__ = ("order_id", "run_id", "status", "message", "body_json")
    ORDER_ID_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    BODY_JSON_FIELD_NUMBER: _ClassVar[int]
    order_id: str
    run_id: str
    status: Status
    message: str
    body_json: bytes
    def __init__(self, order_id: _Optional[str] = ..., run_id: _Optional[str] = ..., status: _Optional[_Union[Status, str]] = ..., message: _Optional[str] = ..., body_json: _Optional[bytes] = ...) -> None: ...

class Event(_message.Message):
    __slots__ = ("at_ns", "wall_ns", "run_id", "kind", "body_json")
    AT_NS_FIELD_NUMBER: _ClassVar[int]
    WALL_NS_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    BODY_JSON_FIELD_NUMBER: _ClassVar[int]
    at_ns: int
    wall_ns: int
    run_id: str
    kind: str
    body_json: bytes
    def __init__(self, at_ns: _Optional[int] = ..., wall_ns: _Optional[int] = ..., run_id: _Optional[str] = ..., kind: _Optional[str] = ..., body_json: _Optional[bytes] = ...) -> None: ...

class Telemetry(_message.Message):
    __slots__ = ("probes", "gauges")
    PROBES_FIELD_NUMBER: _ClassVar[int]
    GAUGES_FIELD_NUMBER: _ClassVar[int]
    probes: _containers.RepeatedCompositeFieldContainer[ProbeBatch]
    gauges: _containers.RepeatedCompositeFieldContainer[GaugeBatch]
    def __init__(self, probes: _Optional[_Iterable[_Union[ProbeBatch, _Mapping]]] = ..., gauges: _Optional[_Iterable[_Union[GaugeBatch, _Mapping]]] = ...) -> None: ...

class ProbeBatch(_message.Message):
    __slots__ = ("run_id", "probe", "first_index", "count", "due_ns", "start_ns", "done_ns", "outcome")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    PROBE_FIELD_NUMBER: _ClassVar[int]
    FIRST_INDEX_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    DUE_NS_FIELD_NUMBER: _ClassVar[int]
    START_NS_FIELD_NUMBER: _ClassVar[int]
    DONE_NS_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    probe: str
    first_index: int
    count: int
    due_ns: bytes
    start_ns: bytes
    done_ns: bytes
    outcome: bytes
    def __init__(self, run_id: _Optional[str] = ..., probe: _Optional[str] = ..., first_index: _Optional[int] = ..., count: _Optional[int] = ..., due_ns: _Optional[bytes] = ..., start_ns: _Optional[bytes] = ..., done_ns: _Optional[bytes] = ..., outcome: _Optional[bytes] = ...) -> None: ...

class GaugeBatch(_message.Message):
    __slots__ = ("series", "count", "at_ns", "value")
    SERIES_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    AT_NS_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    series: int
    count: int
    at_ns: bytes
    value: bytes
    def __init__(self, series: _Optional[int] = ..., count: _Optional[int] = ..., at_ns: _Optional[bytes] = ..., value: _Optional[bytes] = ...) -> None: ...

class Ack(_message.Message):
    __slots__ = ("sequence",)
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    def __init__(self, sequence: _Optional[int] = ...) -> None: ...
