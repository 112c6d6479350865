{{- /* What the pods of the index have in common. They are within Pod Security *restricted*. */ -}}

{{- /* A pod template's metadata. Takes {root, component, port}: the port that metrics are on. */ -}}
{{- define "dpd.pod.metadata" -}}
labels: {{- include "dpd.selector" . | nindent 2 }}
{{- $annotations := .root.Values.podAnnotations }}
{{- with .root.Values.metrics }}
{{- if and .enabled .annotations }}
{{- $scrape := dict "prometheus.io/scrape" "true" "prometheus.io/port" $.port "prometheus.io/path" "/metrics" }}
{{- $annotations = merge $scrape $annotations }}
{{- end }}
{{- end }}
{{- with $annotations }}
annotations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- /* The first part of a pod's spec. Takes {root, component}. */ -}}
{{- define "dpd.pod" -}}
{{- with .root.Values }}
automountServiceAccountToken: false
# A Service called dpd-api would set variables that begin as ours do.
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  {{- if not (kindIs "invalid" .securityContext.runAsUser) }}
  runAsUser: {{ include "dpd.text" .securityContext.runAsUser }}
  {{- end }}
  {{- if not (kindIs "invalid" .securityContext.runAsGroup) }}
  runAsGroup: {{ include "dpd.text" .securityContext.runAsGroup }}
  {{- end }}
  {{- with .securityContext.supplementalGroups }}
  supplementalGroups:
    {{- range . }}
    - {{ include "dpd.text" . }}
    {{- end }}
  {{- end }}
  seccompProfile: {type: RuntimeDefault}
{{- with .imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with .nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- include "dpd.selector" . | nindent 8 }}
{{- end }}

{{- /* The first part of a container. Takes the root. */ -}}
{{- define "dpd.container" -}}
image: {{ include "dpd.image" . | quote }}
imagePullPolicy: {{ .Values.api.imagePullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{- /* A container's mounts. Takes {root, readOnly}. */ -}}
{{- define "dpd.mounts" -}}
{{- with .root.Values }}
{{- if .dataProductPVC.enabled }}
- {name: shared-storage, mountPath: /mnt/data, readOnly: {{ $.readOnly }}}
{{- end }}
{{- if not (include "dpd.standalone" $.root) }}
{{- if .api.postgresql.passwordFromFile }}
- {name: password, mountPath: /etc/dpd/password, readOnly: true}
{{- end }}
{{- if .api.postgresql.sslRootCertSecretName }}
- {name: ca, mountPath: /etc/dpd/ca, readOnly: true}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- /* The pod's volumes. Takes {root, readOnly}. */ -}}
{{- define "dpd.volumes" -}}
{{- with .root.Values }}
{{- if .dataProductPVC.enabled }}
- name: shared-storage
  persistentVolumeClaim: {claimName: {{ include "dpd.claim" $.root | quote }}, readOnly: {{ $.readOnly }}}
{{- end }}
{{- if not (include "dpd.standalone" $.root) }}
{{- if .api.postgresql.passwordFromFile }}
- name: password
  secret: {secretName: {{ .api.secretName | quote }}}
{{- end }}
{{- with .api.postgresql.sslRootCertSecretName }}
- name: ca
  secret: {secretName: {{ . | quote }}}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- /* A budget by which drains of nodes go on. Of one pod it would hold them up for ever. Takes {root, component, replicas}. */ -}}
{{- define "dpd.budget" -}}
{{- if gt (int64 .replicas) 1 }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ include "dpd.name" .root }}-{{ .component }}
  labels: {{- include "dpd.labels" . | nindent 4 }}
spec:
  maxUnavailable: 1
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels: {{- include "dpd.selector" . | nindent 6 }}
{{- end }}
{{- end }}
