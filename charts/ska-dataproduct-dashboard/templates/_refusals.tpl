{{- /* Values that cannot be taken, each with what to do about it. They are told all at once. */ -}}

{{- define "dpd.refusals" -}}
{{- $api := .Values.api }}
{{- $pg := $api.postgresql }}
{{- $pvc := .Values.dataProductPVC }}
{{- $said := list }}

{{- if or $api.container $api.version }}
{{- $said = append $said "api.container and api.version name the image of the service before, which is another program: take both out of your values (or add --set api.container=null,api.version=null), and set image.repository and image.tag if the index's image is not where image.repository says" }}
{{- end }}
{{- if hasSuffix "/ska-dataproduct-api" .Values.image.repository }}
{{- $said = append $said "image.repository names the image of the service before: set it to that of the index, which `make image` builds" }}
{{- end }}
{{- if $pg.password }}
{{- $said = append $said (printf "api.postgresql.password: passwords are not taken from values: put it into the Secret %s under the key SKA_DATAPRODUCT_API_POSTGRESQL_PASSWORD, and take it out of your values" $api.secretName) }}
{{- end }}
{{- if eq (toString $api.useLocalTestData) "true" }}
{{- $said = append $said "api.useLocalTestData: there are no made-up flows: set it to false, and api.sdpConfigdbHost to a configuration database where you want some" }}
{{- end }}
{{- if eq (include "dpd.usesVault" $api) "yes" }}
{{- $said = append $said (printf "api.vault.useVault: set vault-secret-sync.enabled=true and vault-secret-sync.secrets.api.vaultPath=%s instead, or make the Secret %s yourself; and take api.vault out of your values" (get $api.vault "pathToSecretVault" | default "PATH") $api.secretName) }}
{{- end }}
{{- if eq (include "dpd.usesVault" .Values.dashboard) "yes" }}
{{- $said = append $said (printf "dashboard.vault.useVault: set vault-secret-sync.enabled=true and vault-secret-sync.secrets.dashboard.vaultPath=%s instead, or make the Secret %s yourself; and take dashboard.vault out of your values" (get .Values.dashboard.vault "pathToSecretVault" | default "PATH") .Values.dashboard.secretName) }}
{{- end }}
{{- $vault := .Values.dashboard.vault | default dict }}
{{- range $name, $key := dict "client_id" "REACT_APP_MSENTRA_CLIENT_ID" "tenant_id" "REACT_APP_MSENTRA_TENANT_ID" }}
{{- $value := get $vault $name | toString }}
{{- if not (or (empty $value) (hasPrefix "placeholder_" $value)) }}
{{- $said = append $said (printf "dashboard.vault.%s: put it into the Secret %s under the key %s, and take it out of your values" $name $.Values.dashboard.secretName $key) }}
{{- end }}
{{- end }}
{{- if eq (get (.Values.permissionsApi | default dict) "enabled" | toString) "true" }}
{{- $said = append $said "permissionsApi.enabled: this chart does not install the permissions service: set it to false, install that by its own chart, and name it in api.permissionsapi.serviceUrl" }}
{{- end }}

{{- range $older, $new := dict "metadata_file_name" (list "metadataFileName" "ska-data-product.yaml") "stream_chunk_size" (list "streamChunkSize" "65536") "dateFromat" (list "dateFormat" "%Y-%m-%d") }}
{{- if hasKey $api $older }}
{{- $name := first $new }}
{{- $value := include "dpd.text" (get $api $name) }}
{{- if and (ne $value (last $new)) (ne $value (include "dpd.text" (get $api $older))) }}
{{- $said = append $said (printf "api.%s is what api.%s was called in older charts, and yours differ: take api.%s out of your values" $older $name $older) }}
{{- end }}
{{- end }}
{{- end }}

{{- if and $pvc.enabled (not (hasPrefix "/mnt/data/" (printf "%s/" (clean $api.storagePath)))) }}
{{- $said = append $said (printf "api.storagePath: %s is not on the volume: set it to a folder below /mnt/data, where the claim %s is mounted" $api.storagePath (include "dpd.claim" .)) }}
{{- end }}
{{- if and $pvc.enabled $pvc.create.enabled (not (has "ReadWriteMany" $pvc.create.accessModes)) }}
{{- $said = append $said "dataProductPVC.create.accessModes: several pods on several nodes mount the claim: set it to [ReadWriteMany], and storageClassName to a class that can do so" }}
{{- end }}

{{- if and $pg.readDatabaseUrl $pg.readDatabaseUrlSecretName }}
{{- $said = append $said "api.postgresql.readDatabaseUrl and readDatabaseUrlSecretName: set one of the two" }}
{{- end }}
{{- if regexMatch "://[^/@]*:[^/@]*@" $pg.readDatabaseUrl }}
{{- $said = append $said "api.postgresql.readDatabaseUrl holds a password: put the URL into a Secret under the key DPD_READ_DATABASE_URL, and name that in api.postgresql.readDatabaseUrlSecretName" }}
{{- end }}
{{- if and (include "dpd.standalone" .) (or $pg.readDatabaseUrl $pg.readDatabaseUrlSecretName) }}
{{- $said = append $said "api.postgresql.readDatabaseUrl: there is nothing that it could be a standby of: set api.postgresql.host as well" }}
{{- end }}

{{- $instead := dict "DATABASE_URL" "api.postgresql" "DPD_DOWNLOAD_GRACE_SECONDS" "api.downloadGraceSeconds" "DPD_DRAIN_SECONDS" "api.drainSeconds" "PERSISTENT_STORAGE_PATH" "api.storagePath" "SKA_DATAPRODUCT_API_POSTGRESQL_HOST" "api.postgresql.host" "SKA_DATAPRODUCT_API_POSTGRESQL_PASSWORD" "api.secretName" }}
{{- range $where, $env := dict "env" .Values.env "api.env" $api.env "indexer.env" .Values.indexer.env }}
{{- range $variable, $name := $instead }}
{{- if hasKey ($env | default dict) $variable }}
{{- $said = append $said (printf "%s.%s: set %s instead, by which more goes than this variable, and take it out of %s" $where $variable $name $where) }}
{{- end }}
{{- end }}
{{- end }}

{{- $metrics := .Values.metrics }}
{{- range $name, $on := dict "annotations" $metrics.annotations "podMonitor.enabled" $metrics.podMonitor.enabled "prometheusRule.enabled" $metrics.prometheusRule.enabled "grafanaDashboard.enabled" $metrics.grafanaDashboard.enabled }}
{{- if and $on (not $metrics.enabled) }}
{{- $said = append $said (printf "metrics.%s: there are no metrics: set metrics.enabled=true as well" $name) }}
{{- end }}
{{- end }}

{{- range $said }}
- {{ . }}
{{- end }}
{{- end }}

{{- /* "yes" where charts up to 0.13 took secrets from Vault. Takes api or dashboard. */ -}}
{{- define "dpd.usesVault" -}}
{{- if eq (get (.vault | default dict) "useVault" | toString) "true" }}yes{{ end }}
{{- end }}
