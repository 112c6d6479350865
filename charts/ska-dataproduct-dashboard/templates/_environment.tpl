{{- /* The programs' environment: what the values come to, as maps of a variable's name to its value, and those as a list. */ -}}

{{- /* Of both programs. */ -}}
{{- define "dpd.environment.both" -}}
{{- $api := .Values.api }}
API_VERBOSE: {{ $api.verbose | toString | quote }}
DPD_LOG_FORMAT: {{ .Values.logFormat | quote }}
PERSISTENT_STORAGE_PATH: {{ $api.storagePath | quote }}
PVCNAME: {{ .Values.dataProductPVC.name | quote }}
METADATA_FILE_NAME: {{ include "dpd.either" (dict "of" $api "name" "metadataFileName" "older" "metadata_file_name") | quote }}
SKA_DATAPRODUCT_API_DPD_VOLUME_ID_FILE: {{ $api.postgresql.dpdVolumeIdFile | quote }}
INDEXING_TIMEOUT_SECONDS: {{ include "dpd.text" $api.indexingTimeoutSeconds | quote }}
INDEXING_BATCH_SIZE: {{ include "dpd.text" $api.indexingBatchSize | quote }}
INDEXING_PARALLEL_WORKERS: {{ include "dpd.text" $api.indexingParallelWorkers | quote }}
{{- if $api.sdpConfigdbHost }}
SDP_CONFIG_HOST: {{ $api.sdpConfigdbHost | quote }}
SDP_CONFIG_PORT: {{ include "dpd.text" $api.sdpConfigdbPort | quote }}
SDP_CONFIG_PROTOCOL: {{ $api.sdpConfigdbProtocol | quote }}
SDP_CONFIG_PATH: {{ $api.sdpConfigdbPath | quote }}
SDP_CONFIG_USERNAME: {{ $api.sdpConfigdbUser | quote }}
SKA_DATAPRODUCT_API_SDP_WATCHER_RECONNECT_DELAY_SECONDS: {{ include "dpd.text" $api.sdpWatcherReconnectDelaySeconds | quote }}
{{- with $api.sdpConfigdbSecretName }}
SDP_CONFIG_PASSWORD: {secretKeyRef: {name: {{ . | quote }}, key: SDP_CONFIG_PASSWORD}}
{{- end }}
{{- end }}
{{- if not (include "dpd.standalone" .) }}
{{- include "dpd.environment.postgresql" . }}
{{- end }}
{{- end }}

{{- define "dpd.environment.postgresql" -}}
{{- $api := .Values.api }}
{{- with $api.postgresql }}
INDEXING_HEARTBEAT_STALE_SECONDS: {{ include "dpd.text" $api.indexingHeartbeatStaleSeconds | quote }}
INDEXING_STATE_TABLE_NAME: {{ $api.indexingStateTableName | quote }}
SKA_DATAPRODUCT_API_POSTGRESQL_HOST: {{ .host | quote }}
SKA_DATAPRODUCT_API_POSTGRESQL_PORT: {{ include "dpd.port" $ | quote }}
SKA_DATAPRODUCT_API_POSTGRESQL_USER: {{ .user | quote }}
SKA_DATAPRODUCT_API_POSTGRESQL_DBNAME: {{ .dbname | quote }}
SKA_DATAPRODUCT_API_POSTGRESQL_SCHEMA: {{ include "dpd.schema" $ | quote }}
SKA_DATAPRODUCT_DLM_INTERFACE_ENABLED: {{ .dlmInterfaceEnabled | toString | quote }}
SKA_DATAPRODUCT_API_POSTGRESQL_DLM_SCHEMA: {{ .dlmSchema | quote }}
SKA_DATAPRODUCT_API_POSTGRESQL_DLM_METADATA_TABLE_NAME: {{ .dlmMetadataTableName | quote }}
{{- if .passwordFromFile }}
SKA_DATAPRODUCT_API_POSTGRESQL_PASSWORD_FILE: /etc/dpd/password/SKA_DATAPRODUCT_API_POSTGRESQL_PASSWORD
{{- else }}
SKA_DATAPRODUCT_API_POSTGRESQL_PASSWORD:
  secretKeyRef: {name: {{ $api.secretName | quote }}, key: SKA_DATAPRODUCT_API_POSTGRESQL_PASSWORD, optional: true}
{{- end }}
{{- with .sslMode }}
SKA_DATAPRODUCT_API_POSTGRESQL_SSLMODE: {{ . | quote }}
{{- end }}
{{- if .sslRootCertSecretName }}
SKA_DATAPRODUCT_API_POSTGRESQL_SSLROOTCERT: {{ printf "/etc/dpd/ca/%s" .sslRootCertKey | quote }}
{{- end }}
{{- end }}
{{- end }}

{{- /* Of what answers: the API, or `dpd serve`. */ -}}
{{- define "dpd.environment.api" -}}
{{- $api := .Values.api }}
API_ROOT_PATH: {{ include "dpd.api.path" . | quote }}
DPD_DRAIN_SECONDS: {{ include "dpd.text" $api.drainSeconds | quote }}
DPD_DOWNLOAD_GRACE_SECONDS: {{ include "dpd.text" $api.downloadGraceSeconds | quote }}
STREAM_CHUNK_SIZE: {{ include "dpd.either" (dict "of" $api "name" "streamChunkSize" "older" "stream_chunk_size") | quote }}
DATE_FORMAT: {{ include "dpd.either" (dict "of" $api "name" "dateFormat" "older" "dateFromat") | quote }}
SKA_DATAPRODUCT_API_POSTGRESQL_QUERY_SIZE_LIMIT: {{ include "dpd.text" $api.postgresql.querySizeLimit | quote }}
SKA_PERMISSIONS_API_HOST: {{ $api.permissionsapi.serviceUrl | quote }}
# The path is on the API's own origin.
REACT_APP_SKA_DATAPRODUCT_DASHBOARD_URL: {{ include "dpd.dashboard.path" . | quote }}
REACT_APP_SKA_DATAPRODUCT_DASHBOARD_PORT: {{ include "dpd.text" $api.dashboardPort | quote }}
{{- if .Values.metrics.enabled }}
DPD_METRICS_LISTEN: "0.0.0.0:9090"
{{- end }}
{{- if not (include "dpd.standalone" .) }}
DPD_API_LISTEN: "0.0.0.0:8000"
{{- with $api.postgresql.readDatabaseUrl }}
DPD_READ_DATABASE_URL: {{ . | quote }}
{{- end }}
{{- with $api.postgresql.readDatabaseUrlSecretName }}
DPD_READ_DATABASE_URL: {secretKeyRef: {name: {{ . | quote }}, key: DPD_READ_DATABASE_URL}}
{{- end }}
{{- end }}
{{- end }}

{{- define "dpd.environment.indexer" -}}
# Metrics are there as well.
DPD_INDEXER_LISTEN: "0.0.0.0:8001"
{{- end }}

{{- /* A container's `env`. Later maps win, and `null` takes a variable away. Takes a list of maps. */ -}}
{{- define "dpd.environment" -}}
{{- $all := dict }}
{{- range . }}{{ range $name, $value := . }}{{ $_ := set $all $name $value }}{{ end }}{{ end }}
{{- range $name, $value := $all }}
{{- if kindIs "map" $value }}
- name: {{ $name }}
  valueFrom: {{- toYaml $value | nindent 4 }}
{{- else if not (kindIs "invalid" $value) }}
- name: {{ $name }}
  value: {{ include "dpd.text" $value | quote }}
{{- end }}
{{- end }}
{{- end }}
