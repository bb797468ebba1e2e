from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SubmitRequest(_message.Message):
    __slots__ = ("experiment_json", "source", "variables", "profile_json")
    class VariablesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    EXPERIMENT_JSON_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    VARIABLES_FIELD_NUMBER: _ClassVar[int]
    PROFILE_JSON_FIELD_NUMBER: _ClassVar[int]
    experiment_json: bytes
    source: str
    variables: _containers.ScalarMap[str, str]
    profile_json: str
    def __init__(self, experiment_json: _Optional[bytes] = ..., source: _Optional[str] = ..., variables: _Optional[_Mapping[str, str]] = ..., profile_json: _Optional[str] = ...) -> None: ...

class Run(_message.Message):
    __slots__ = ("id", "title", "state", "verdict", "outcome", "reason", "actor", "source", "submitted_wall_ns", "started_wall_ns", "ended_wall_ns", "stranded")
    ID_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    SUBMITTED_WALL_NS_FIELD_NUMBER: _ClassVar[int]
    STARTED_WALL_NS_FIELD_NUMBER: _ClassVar[int]
    ENDED_WALL_NS_FIELD_NUMBER: _ClassVar[int]
    STRANDED_FIELD_NUMBER: _ClassVar[int]
    id: str
    title: str
    state: str
    verdict: str
    outcome: str
    reason: str
    actor: str
    source: str
    submitted_wall_ns: int
    started_wall_ns: int
    ended_wall_ns: int
    stranded: bool
    def __init__(self, id: _Optional[str] = ..., title: _Optional[str] = ..., state: _Optional[str] = ..., verdict: _Optional[str] = ..., outcome: _Optional[str] = ..., reason: _Optional[str] = ..., actor: _Optional[str] = ..., source: _Optional[str] = ..., submitted_wall_ns: _Optional[int] = ..., started_wall_ns: _Optional[int] = ..., ended_wall_ns: _Optional[int] = ..., stranded: bool = ...) -> None: ...

class PlanReply(_message.Message):
    __slots__ = ("plan_json",)
    PLAN_JSON_FIELD_NUMBER: _ClassVar[int]
    plan_json: bytes
    def __init__(self, plan_json: _Optional[bytes] = ...) -> None: ...

class WatchRequest(_message.Message):
    __slots__ = ("run_id", "after")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    after: int
    def __init__(self, run_id: _Optional[str] = ..., after: _Optional[int] = ...) -> None: ...

class RunEvent(_message.Message):
    __slots__ = ("run_id", "number", "wall_ns", "kind", "message", "body_json")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    WALL_NS_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    BODY_JSON_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    number: int
    wall_ns: int
    kind: str
    message: str
    body_json: bytes
    def __init__(self, run_id: _Optional[str] = ..., number: _Optional[int] = ..., wall_ns: _Optional[int] = ..., kind: _Optional[str] = ..., message: _Optional[str] = ..., body_json: _Optional[bytes] = ...) -> None: ...

class AbortRequest(_message.Message):
    __slots__ = ("run_id", "reason")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    reason: str
    def __init__(self, run_id: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class ListRunsRequest(_message.Message):
    __slots__ = ("most",)
    MOST_FIELD_NUMBER: _ClassVar[int]
    most: int
    def __init__(self, most: _Optional[int] = ...) -> None: ...

class ListRunsReply(_message.Message):
    __slots__ = ("runs",)
    RUNS_FIELD_NUMBER: _ClassVar[int]
    runs: _containers.RepeatedCompositeFieldContainer[Run]
    def __init__(self, runs: _Optional[_Iterable[_Union[Run, _Mapping]]] = ...) -> None: ...

class ShowRunRequest(_message.Message):
    __slots__ = ("run_id",)
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    def __init__(self, run_id: _Optional[str] = ...) -> None: ...

class RunDetail(_message.Message):
    __slots__ = ("run", "document_json")
    RUN_FIELD_NUMBER: _ClassVar[int]
    DOCUMENT_JSON_FIELD_NUMBER: _ClassVar[int]
    run: Run
    document_json: bytes
    def __init__(self, run: _Optional[_Union[Run, _Mapping]] = ..., document_json: _Optional[bytes] = ...) -> None: ...

class ReportRequest(_message.Message):
    __slots__ = ("run_ids", "title", "format", "not_tested")
    RUN_IDS_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    NOT_TESTED_FIELD_NUMBER: _ClassVar[int]
    run_ids: _containers.RepeatedScalarFieldContainer[str]
    title: str
    format: str
    not_tested: _containers.RepeatedCompositeFieldContainer[NotTested]
    def __init__(self, run_ids: _Optional[_Iterable[str]] = ..., title: _Optional[str] = ..., format: _Optional[str] = ..., not_tested: _Optional[_Iterable[_Union[NotTested, _Mapping]]] = ...) -> None: ...

class NotTested(_message.Message):
    __slots__ = ("title", "source", "missing")
    TITLE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    title: str
    source: str
    missing: str
    def __init__(self, title: _Optional[str] = ..., source: _Optional[str] = ..., missing: _Optional[str] = ...) -> None: ...

class ReportReply(_message.Message):
    __slots__ = ("media_type", "content")
    MEDIA_TYPE_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    media_type: str
    content: bytes
    def __init__(self, media_type: _Optional[str] = ..., content: _Optional[bytes] = ...) -> None: ...

class ListAgentsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListAgentsReply(_message.Message):
    __slots__ = ("agents",)
    AGENTS_FIELD_NUMBER: _ClassVar[int]
    agents: _containers.RepeatedCompositeFieldContainer[Agent]
    def __init__(self, agents: _Optional[_Iterable[_Union[Agent, _Mapping]]] = ...) -> None: ...

class Agent(_message.Message):
    __slots__ = ("id", "connected", "version", "boot_id", "labels", "seen_wall_ns", "offset_s", "offset_error_s", "effects", "spooled", "dropped", "capabilities_json", "stranded_json", "residue")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    CONNECTED_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    BOOT_ID_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    SEEN_WALL_NS_FIELD_NUMBER: _ClassVar[int]
    OFFSET_S_FIELD_NUMBER: _ClassVar[int]
    OFFSET_ERROR_S_FIELD_NUMBER: _ClassVar[int]
    EFFECTS_FIELD_NUMBER: _ClassVar[int]
    SPOOLED_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    CAPABILITIES_JSON_FIELD_NUMBER: _ClassVar[int]
    STRANDED_JSON_FIELD_NUMBER: _ClassVar[int]
    RESIDUE_FIELD_NUMBER: _ClassVar[int]
    id: str
    connected: bool
    version: str
    boot_id: str
    labels: _containers.ScalarMap[str, str]
    seen_wall_ns: int
    offset_s: float
    offset_error_s: float
    effects: int
    spooled: int
    dropped: int
    capabilities_json: bytes
    stranded_json: bytes
    residue: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, id: _Optional[str] = ..., connected: bool = ..., version: _Optional[str] = ..., boot_id: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., seen_wall_ns: _Optional[int] = ..., offset_s: _Optional[float] = ..., offset_error_s: _Optional[float] = ..., effects: _Optional[int] = ..., spooled: _Optional[int] = ..., dropped: _Optional[int] = ..., capabilities_json: _Optional[bytes] = ..., stranded_json: _Optional[bytes] = ..., residue: _Optional[_Iterable[str]] = ...) -> None: ...

class ListFaultsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListFaultsReply(_message.Message):
    __slots__ = ("faults",)
    FAULTS_FIELD_NUMBER: _ClassVar[int]
    faults: _containers.RepeatedCompositeFieldContainer[FaultKind]
    def __init__(self, faults: _Optional[_Iterable[_Union[FaultKind, _Mapping]]] = ...) -> None: ...

class FaultKind(_message.Message):
    __slots__ = ("kind", "undo", "agents_available", "agents_total", "missing")
    KIND_FIELD_NUMBER: _ClassVar[int]
    UNDO_FIELD_NUMBER: _ClassVar[int]
    AGENTS_AVAILABLE_FIELD_NUMBER: _ClassVar[int]
    AGENTS_TOTAL_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    kind: str
    undo: str
    agents_available: int
    agents_total: int
    missing: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, kind: _Optional[str] = ..., undo: _Optional[str] = ..., agents_available: _Optional[int] = ..., agents_total: _Optional[int] = ..., missing: _Optional[_Iterable[str]] = ...) -> None: ...

class StopRequest(_message.Message):
    __slots__ = ("lift", "reason")
    LIFT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    lift: bool
    reason: str
    def __init__(self, lift: bool = ..., reason: _Optional[str] = ...) -> None: ...

class StopReply(_message.Message):
    __slots__ = ("stopped", "agents", "effects_reverted", "stranded", "unreachable")
    STOPPED_FIELD_NUMBER: _ClassVar[int]
    AGENTS_FIELD_NUMBER: _ClassVar[int]
    EFFECTS_REVERTED_FIELD_NUMBER: _ClassVar[int]
    STRANDED_FIELD_NUMBER: _ClassVar[int]
    UNREACHABLE_FIELD_NUMBER: _ClassVar[int]
    stopped: bool
    agents: int
    effects_reverted: int
    stranded: _containers.RepeatedScalarFieldContainer[str]
    unreachable: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, stopped: bool = ..., agents: _Optional[int] = ..., effects_reverted: _Optional[int] = ..., stranded: _Optional[_Iterable[str]] = ..., unreachable: _Optional[_Iterable[str]] = ...) -> None: ...

class IssueJoinTokenRequest(_message.Message):
    __slots__ = ("valid_s", "agent_id")
    VALID_S_FIELD_NUMBER: _ClassVar[int]
    AGENT_ID_FIELD_NUMBER: _ClassVar[int]
    valid_s: float
    agent_id: str
    def __init__(self, valid_s: _Optional[float] = ..., agent_id: _Optional[str] = ...) -> None: ...

class JoinToken(_message.Message):
    __slots__ = ("token", "expires_wall_ns", "enrol_address", "address", "ca_pem")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_WALL_NS_FIELD_NUMBER: _ClassVar[int]
    ENROL_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    CA_PEM_FIELD_NUMBER: _ClassVar[int]
    token: str
    expires_wall_ns: int
    enrol_address: str
    address: str
    ca_pem: bytes
    def __init__(self, token: _Optional[str] = ..., expires_wall_ns: _Optional[int] = ..., enrol_address: _Optional[str] = ..., address: _Optional[str] = ..., ca_pem: _Optional[bytes] = ...) -> None: ...

class ListAuditRequest(_message.Message):
    __slots__ = ("most",)
    MOST_FIELD_NUMBER: _ClassVar[int]
    most: int
    def __init__(self, most: _Optional[int] = ...) -> None: ...

class ListAuditReply(_message.Message):
    __slots__ = ("records",)
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    records: _containers.RepeatedCompositeFieldContainer[AuditRecord]
    def __init__(self, records: _Optional[_Iterable[_Union[AuditRecord, _Mapping]]] = ...) -> None: ...

class AuditRecord(_message.Message):
    __slots__ = ("wall_ns", "actor", "role", "method", "subject", "outcome")
    WALL_NS_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    wall_ns: int
    actor: str
    role: str
    method: str
    subject: str
    outcome: str
    def __init__(self, wall_ns: _Optional[int] = ..., actor: _Optional[str] = ..., role: _Optional[str] = ..., method: _Optional[str] = ..., subject: _Optional[str] = ..., outcome: _Optional[str] = ...) -> None: ...

class ApproveRequest(_message.Message):
    __slots__ = ("run", "valid_s")
    RUN_FIELD_NUMBER: _ClassVar[int]
    VALID_S_FIELD_NUMBER: _ClassVar[int]
    run: SubmitRequest
    valid_s: float
    def __init__(self, run: _Optional[_Union[SubmitRequest, _Mapping]] = ..., valid_s: _Optional[float] = ...) -> None: ...

class Approval(_message.Message):
    __slots__ = ("digest", "title", "source", "approver", "approved_wall_ns", "expires_wall_ns", "run_id")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    APPROVER_FIELD_NUMBER: _ClassVar[int]
    APPROVED_WALL_NS_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_WALL_NS_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    digest: str
    title: str
    source: str
    approver: str
    approved_wall_ns: int
    expires_wall_ns: int
    run_id: str
    def __init__(self, digest: _Optional[str] = ..., title: _Optional[str] = ..., source: _Optional[str] = ..., approver: _Optional[str] = ..., approved_wall_ns: _Optional[int] = ..., expires_wall_ns: _Optional[int] = ..., run_id: _Optional[str] = ...) -> None: ...

class ListApprovalsRequest(_message.Message):
    __slots__ = ("most",)
    MOST_FIELD_NUMBER: _ClassVar[int]
    most: int
    def __init__(self, most: _Optional[int] = ...) -> None: ...

class ListApprovalsReply(_message.Message):
    __slots__ = ("approvals",)
    APPROVALS_FIELD_NUMBER: _ClassVar[int]
    approvals: _containers.RepeatedCompositeFieldContainer[Approval]
    def __init__(self, approvals: _Optional[_Iterable[_Union[Approval, _Mapping]]] = ...) -> None: ...

class AddScheduleRequest(_message.Message):
    __slots__ = ("name", "cron", "at_wall_ns", "run")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CRON_FIELD_NUMBER: _ClassVar[int]
    AT_WALL_NS_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    name: str
    cron: str
    at_wall_ns: int
    run: SubmitRequest
    def __init__(self, name: _Optional[str] = ..., cron: _Optional[str] = ..., at_wall_ns: _Optional[int] = ..., run: _Optional[_Union[SubmitRequest, _Mapping]] = ...) -> None: ...

class Schedule(_message.Message):
    __slots__ = ("name", "cron", "at_wall_ns", "source", "next_wall_ns", "last_run_id")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CRON_FIELD_NUMBER: _ClassVar[int]
    AT_WALL_NS_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    NEXT_WALL_NS_FIELD_NUMBER: _ClassVar[int]
    LAST_RUN_ID_FIELD_NUMBER: _ClassVar[int]
    name: str
    cron: str
    at_wall_ns: int
    source: str
    next_wall_ns: int
    last_run_id: str
    def __init__(self, name: _Optional[str] = ..., cron: _Optional[str] = ..., at_wall_ns: _Optional[int] = ..., source: _Optional[str] = ..., next_wall_ns: _Optional[int] = ..., last_run_id: _Optional[str] = ...) -> None: ...

class ListSchedulesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListSchedulesReply(_message.Message):
    __slots__ = ("schedules",)
    SCHEDULES_FIELD_NUMBER: _ClassVar[int]
    schedules: _containers.RepeatedCompositeFieldContainer[Schedule]
    def __init__(self, schedules: _Optional[_Iterable[_Union[Schedule, _Mapping]]] = ...) -> None: ...

class RemoveScheduleRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class InvokeRequest(_message.Message):
    __slots__ = ("run_id", "function", "arguments_json")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    FUNCTION_FIELD_NUMBER: _ClassVar[int]
    ARGUMENTS_JSON_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    function: str
    arguments_json: bytes
    def __init__(self, run_id: _Optional[str] = ..., function: _Optional[str] = ..., arguments_json: _Optional[bytes] = ...) -> None: ...

class InvokeReply(_message.Message):
    __slots__ = ("progress", "result_json", "done")
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    RESULT_JSON_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    progress: str
    result_json: bytes
    done: bool
    def __init__(self, progress: _Optional[str] = ..., result_json: _Optional[bytes] = ..., done: bool = ...) -> None: ...

class CloseRunRequest(_message.Message):
    __slots__ = ("run_id", "journal_json")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    JOURNAL_JSON_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    journal_json: bytes
    def __init__(self, run_id: _Optional[str] = ..., journal_json: _Optional[bytes] = ...) -> None: ...
