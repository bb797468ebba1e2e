{{/* A DaemonSet of agents: root, name, role (any, service or gpu). */}}
{{- define "blackstart.agents" -}}
{{- $mode := .root.Values.agents.mode -}}
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: {{ .name }}, namespace: {{ .root.Values.namespaces.agents }}, labels: {app.kubernetes.io/part-of: blackstart, app.kubernetes.io/name: {{ .name }} }}
spec:
  selector: {matchLabels: {app.kubernetes.io/name: {{ .name }} }}  # cannot be changed later: no role in it
  updateStrategy: {type: RollingUpdate, rollingUpdate: {maxUnavailable: 10%}}
  template:
    metadata: {labels: {app.kubernetes.io/name: {{ .name }}, blackstart.dev/nodes: {{ .role }} }}
    spec:
      serviceAccountName: blackstart-agent
      automountServiceAccountToken: false
      enableServiceLinks: false
      terminationGracePeriodSeconds: 40  # SIGTERM reverts everything first
      {{- if eq .role "gpu" }}
      nodeSelector: {nvidia.com/gpu.present: "true"}
      runtimeClassName: nvidia
      {{- else if eq .role "service" }}
      affinity:
        nodeAffinity:
          requiredDuringSchedulingIgnoredDuringExecution:
            nodeSelectorTerms: [{matchExpressions: [{key: nvidia.com/gpu.present, operator: NotIn, values: ["true"]}]}]
      {{- end }}
      {{- $tolerations := .root.Values.agents.tolerations }}
      {{- if eq .role "gpu" }}
      {{- $tolerations = append $tolerations (dict "key" "nvidia.com/gpu" "operator" "Exists") }}
      {{- end }}
      {{- with $tolerations }}
      tolerations: {{ toJson . }}
      {{- end }}
      {{- if ne $mode "restricted" }}
      priorityClassName: system-node-critical  # last to be evicted or killed for memory: it is what ends the effects
      hostPID: true  # process.*: the node's processes; also whose namespaces a fault on a pod enters
      hostNetwork: true  # network.* acts in the node's own network, and the agent's stream does not hang on the pod network
      dnsPolicy: ClusterFirstWithHostNet
      securityContext: {seccompProfile: {type: RuntimeDefault}}
      {{- else }}
      securityContext:
        {runAsNonRoot: true, runAsUser: 64701, runAsGroup: 64701, fsGroup: 64701, seccompProfile: {type: RuntimeDefault}}
      {{- end }}
      initContainers:
        - name: enrol
          image: {{ .root.Values.images.agent }}
          command: [blackstart-agent, enrol, --if-needed, --state, /var/lib/blackstart-agent, /etc/blackstart/join/join.json]
          env:
            {{- include "blackstart.identity" . | nindent 12 }}
          securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
          resources: {requests: {cpu: 10m, memory: 64Mi}}
          volumeMounts:
            {{- include "blackstart.mounts" . | nindent 12 }}
      containers:
        - name: agent
          image: {{ .root.Values.images.agent }}
          args: [run, --state, /var/lib/blackstart-agent, --policy, /etc/blackstart/policy/policy.yaml, --controller,
                 "blackstart-controller.{{ .root.Values.namespaces.controller }}.svc:7400"]
          env:
            {{- include "blackstart.identity" . | nindent 12 }}
            {{- if eq .role "gpu" }}
            - {name: NVIDIA_VISIBLE_DEVICES, value: all}
            - {name: NVIDIA_DRIVER_CAPABILITIES, value: "compute,utility,video"}
            {{- end }}
            {{- if eq $mode "all-faults" }}
            - {name: DOCKER_HOST, value: "unix:///host/run/docker.sock"}
            {{- end }}
          {{- if eq $mode "restricted" }}
          securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
          {{- else if eq $mode "all-faults" }}
          securityContext: {privileged: true, runAsUser: 0, readOnlyRootFilesystem: true}
          {{- else }}
          securityContext:
            runAsUser: 0  # capabilities of others' namespaces hang on it, and the journal is root's
            readOnlyRootFilesystem: true
            allowPrivilegeEscalation: false
            appArmorProfile: {type: Unconfined}  # the runtime's own denies ptrace and mounts
            capabilities:
              drop: [ALL]
              add:
                - KILL  # process.kill, process.pause, process.restart_loop: signals to processes of other users
                - NET_ADMIN  # network.*: nftables, queueing disciplines, packet queues, resets of connections
                - NET_RAW  # network.*: the proof by echo request, and packets that are held back and sent again
                - SYS_ADMIN  # network.*: entering a pod's network namespace (setns); cgroup limits; GPU settings
                - SYS_PTRACE  # process.pause; /proc of other users' processes: namespaces, environment, open files
                - SYS_RESOURCE  # resource.fd_exhaust: limits of other processes; resource.disk_fill: reserved blocks
                - SYS_NICE  # network.delay and the like: the packet queue's process is not to wait for a processor
                - DAC_OVERRIDE  # resource.disk_fill, resource.inode_fill, log probes: files of other users
                - SETUID  # time.clock_skew: its files are the target user's, and so is the process that looks at the clock
                - SETGID  # the same
          {{- end }}
          # No limits: what presses on memory or processors is a child of the agent, and would be stopped by them.
          resources: {{ toJson .root.Values.agents.resources }}
          volumeMounts:
            {{- include "blackstart.mounts" . | nindent 12 }}
            {{- if eq $mode "all-faults" }}
            - {name: host-run, mountPath: /host/run}
            {{- end }}
      volumes:
        {{- if eq $mode "restricted" }}
        - {name: state, emptyDir: {}}
        {{- else }}
        - {name: state, hostPath: {path: /var/lib/blackstart-agent, type: DirectoryOrCreate}}  # the journal outlives the pod
        - {name: cgroup, hostPath: {path: /sys/fs/cgroup, type: Directory}}  # resource.pid_exhaust, resource.io_throttle
        - {name: run, hostPath: {path: /run/blackstart, type: DirectoryOrCreate}}  # time.clock_skew: offsets that programs read
        - {name: logs, hostPath: {path: /var/log, type: Directory}}  # which pod is which (kubelet's /var/log/pods); log probes
        {{- if eq $mode "all-faults" }}
        - {name: host-run, hostPath: {path: /run, type: Directory}}
        {{- end }}
        {{- end }}
        - {name: join, configMap: {name: blackstart-join}}
        - {name: policy, configMap: {name: blackstart-agent-policy}}
        - {name: tmp, emptyDir: {}}
        - name: enrolment  # what the controller has reviewed: good for it alone
          projected: {sources: [{serviceAccountToken: {path: token, audience: blackstart, expirationSeconds: 600}}]}
        - name: account  # for the kube probe and the faults that act through the API
          projected:
            sources:
              - serviceAccountToken: {path: token, expirationSeconds: 3600}
              - configMap: {name: kube-root-ca.crt, items: [{key: ca.crt, path: ca.crt}]}
              - downwardAPI: {items: [{path: namespace, fieldRef: {fieldPath: metadata.namespace}}]}
{{- end }}

{{/* Who an agent is, by the downward API. */}}
{{- define "blackstart.identity" -}}
- {name: BLACKSTART_AGENT_ID, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
- {name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
- {name: NODE_ADDRESS, valueFrom: {fieldRef: {fieldPath: status.hostIP}}}
# Filled in where the cluster copies a node's topology labels to its pods (Kubernetes 1.35), else left out.
- {name: ZONE, valueFrom: {fieldRef: {fieldPath: "metadata.labels['topology.kubernetes.io/zone']"}}}
- {name: REGION, valueFrom: {fieldRef: {fieldPath: "metadata.labels['topology.kubernetes.io/region']"}}}
- {name: ROLE, valueFrom: {fieldRef: {fieldPath: "metadata.labels['blackstart.dev/nodes']"}}}
- name: BLACKSTART_AGENT_LABELS
  value: node=$(BLACKSTART_AGENT_ID),pod=$(POD),address=$(NODE_ADDRESS),zone=$(ZONE),region=$(REGION),role=$(ROLE)
{{- end }}

{{- define "blackstart.mounts" -}}
- {name: state, mountPath: /var/lib/blackstart-agent}
- {name: join, mountPath: /etc/blackstart/join, readOnly: true}
- {name: policy, mountPath: /etc/blackstart/policy, readOnly: true}
- {name: enrolment, mountPath: /var/run/secrets/blackstart, readOnly: true}
- {name: account, mountPath: /var/run/secrets/kubernetes.io/serviceaccount, readOnly: true}
{{- if ne .root.Values.agents.mode "restricted" }}
- {name: cgroup, mountPath: /sys/fs/cgroup}
- {name: run, mountPath: /run/blackstart}
- {name: logs, mountPath: /var/log, readOnly: true}
{{- end }}
- {name: tmp, mountPath: /tmp}
{{- end }}
