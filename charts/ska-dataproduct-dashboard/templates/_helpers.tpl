{{- /* Names, labels and what else several objects share. */ -}}

{{- define "dpd.name" -}}
{{ .Values.nameOverride | default .Chart.Name }}
{{- end }}

{{- /* What Services, budgets and policies find pods by. Deployments keep theirs for ever. Takes {root, component}. */ -}}
{{- define "dpd.selector" -}}
app.kubernetes.io/name: {{ include "dpd.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- /* Takes {root, component}. */ -}}
{{- define "dpd.labels" -}}
{{ include "dpd.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- end }}

{{- /* The dashboard's, as they were: its Deployment's selector cannot be changed. */ -}}
{{- define "dpd.dashboard.labels" -}}
app.kubernetes.io/name: {{ include "dpd.name" . }}
app: {{ include "dpd.name" . }}-dashboard
{{- end }}

{{- /* Not empty where the index is in memory: one pod of `dpd serve`. */ -}}
{{- define "dpd.standalone" -}}
{{- if not .Values.api.postgresql.host }}yes{{ end }}
{{- end }}

{{- define "dpd.prefix" -}}
{{- if .Values.ingress.namespaced }}/{{ .Release.Namespace }}{{ end }}
{{- end }}

{{- define "dpd.api.path" -}}
{{ printf "%s/%s" (include "dpd.prefix" .) (.Values.api.ingress.path | trimAll "/") | trimSuffix "/" }}
{{- end }}

{{- define "dpd.dashboard.path" -}}
{{ printf "%s/%s" (include "dpd.prefix" .) (.Values.dashboard.ingress.path | trimAll "/") | trimSuffix "/" }}
{{- end }}

{{- define "dpd.claim" -}}
{{ get (.Values.global | default dict) "data-product-pvc-name" | default .Values.dataProductPVC.name }}
{{- end }}

{{- define "dpd.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}

{{- /* A value as a variable's text. Helm reads whole numbers of YAML as floats, and prints a million as 1e+06. */ -}}
{{- define "dpd.text" -}}
{{- if kindIs "invalid" . }}{{ else if and (kindIs "float64" .) (eq (floor .) .) }}{{ int64 . }}{{ else }}{{ toString . }}{{ end }}
{{- end }}

{{- /* A value by its name of today, or by the one that it had in older charts. Takes {of, name, older}. */ -}}
{{- define "dpd.either" -}}
{{- include "dpd.text" (get .of (ternary .older .name (hasKey .of .older))) }}
{{- end }}

{{- define "dpd.port" -}}
{{ include "dpd.text" .Values.api.postgresql.port }}
{{- end }}

{{- /* The schema of our tables: not that of the service before, whose coordination table is called as ours. */ -}}
{{- define "dpd.schema" -}}
{{- with .Values.api.postgresql }}
{{- $own := .indexSchema | default (printf "%s_index" (.schema | default "dpd")) }}
{{- if gt (len $own) 63 }}{{ fail (printf "api.postgresql.schema is too long for %s to be a schema's name: set api.postgresql.indexSchema to one of 63 characters at the most" $own) }}{{ end }}
{{- $own }}
{{- end }}
{{- end }}

{{- /* Values of older charts that are taken and come to nothing, a line each. */ -}}
{{- define "dpd.older" -}}
{{- range $name := list "elasticsearch" "vault" "secrets" }}
{{- if get $.Values.api $name }}
- api.{{ $name }}
{{- end }}
{{- end }}
{{- range $name := list "vault" "config" "secrets" }}
{{- if get $.Values.dashboard $name }}
- dashboard.{{ $name }}
{{- end }}
{{- end }}
{{- if get .Values.api.postgresql "tableName" }}
- api.postgresql.tableName
{{- end }}
{{- if get .Values "permissionsApi" }}
- permissionsApi
{{- end }}
{{- end }}
