{{- define "media-proxy.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "media-proxy.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "media-proxy.name" . -}}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- /* Labels of all that belongs to a part: (dict "root" $ "part" "proxy") */ -}}
{{- define "media-proxy.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/part-of: media-proxy
{{ include "media-proxy.selector" . }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "media-proxy.selector" -}}
app.kubernetes.io/name: {{ include "media-proxy.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- with .part }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end -}}

{{- define "media-proxy.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}{{ .repository }}@{{ .digest }}{{- else -}}{{ .repository }}:{{ default $.Chart.AppVersion .tag }}{{- end -}}
{{- end -}}
{{- end -}}

{{- define "media-proxy.secret" -}}
{{- default (include "media-proxy.fullname" .) .Values.existingSecret -}}
{{- end -}}

{{- define "media-proxy.account" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "media-proxy.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- /* Whether several pods share what there is, so that nothing may lie in the folder of one of them. */ -}}
{{- define "media-proxy.isShared" -}}
{{- if or .Values.worker.enabled .Values.proxy.autoscaling.enabled (gt (int .Values.proxy.replicas) 1) -}}yes{{- end -}}
{{- end -}}
