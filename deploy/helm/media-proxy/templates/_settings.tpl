{{- /* A value as text. Helm reads numbers as floating point, and would write large ones as 5.36870912e+09. */ -}}
{{- define "media-proxy.value" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) -}}{{ int64 . | toString | quote }}{{- else -}}{{ toString . | quote }}{{- end -}}
{{- end -}}

{{- /* What processors read: nothing of stores, tokens and users. As YAML of names and values. */ -}}
{{- define "media-proxy.processing" -}}
{{- range $name, $value := .Values.settings }}
{{- if regexMatch "^MEDIA_(MAX_|OPTIMIZE|TRUNCATED$|DECODE_|RENDER_|DRAIN$|LOG_LEVEL$|HEADER_TIMEOUT$|IDLE_TIMEOUT$|MIN_RATE$)|^PROCESSOR_SPOOL_BYTES$" $name }}
{{ $name }}: {{ include "media-proxy.value" $value }}
{{- end }}
{{- end }}
{{- if .Values.watermarksConfigMap }}
MEDIA_WATERMARKS: /etc/media-proxy/watermarks/watermarks.toml
{{- end }}
{{- end -}}

{{- /* What proxies and workers read: all of it, and what the chart knows. */ -}}
{{- define "media-proxy.serving" -}}
MEDIA_HOST: 0.0.0.0
MEDIA_PORT: "10020"
MEDIA_DATA_DIR: /var/lib/media-proxy
MEDIA_WORKERS: {{ .Values.proxy.workers | quote }}
MEDIA_RENDER_WORKERS: {{ .Values.proxy.renderWorkers | quote }}
MEDIA_JOB_WORKERS: {{ ternary "0" "1" .Values.worker.enabled | quote }}
MEDIA_JOB_THREADS: {{ .Values.worker.threads | quote }}
{{- if .Values.processor.enabled }}
PROCESSOR_URL: http://{{ include "media-proxy.fullname" . }}-processors:10030
PROCESSOR_LOCAL: {{ .Values.processor.local | quote }}
{{- end }}
{{- if .Values.files.presets }}
MEDIA_PRESETS: /etc/media-proxy/files/presets.toml
{{- end }}
{{- if .Values.files.profiles }}
MEDIA_PROFILES: /etc/media-proxy/files/profiles.toml
{{- end }}
{{- if .Values.watermarksConfigMap }}
MEDIA_WATERMARKS: /etc/media-proxy/watermarks/watermarks.toml
{{- end }}
{{- with .Values.serviceMonitor.networks }}
MEDIA_OPERATOR_NETWORKS: {{ prepend . "127.0.0.0/8" | join " " | quote }}
{{- end }}
{{- range $name, $value := .Values.settings }}
{{ $name }}: {{ include "media-proxy.value" $value }}
{{- end }}
{{- end -}}

{{- /* What cannot be right ends here, with a sentence that says what to do, and not in a pod that does not start. */ -}}
{{- define "media-proxy.checked" -}}
{{- $own := not .Values.existingSecret -}}
{{- $has := merge (dict) .Values.settings .Values.secrets -}}
{{- if and .Values.existingSecret .Values.secrets -}}
{{- fail "existingSecret and secrets are both set: keep one." -}}
{{- end -}}
{{- if and $own (not (or $has.JWT_SECRET $has.JWT_PUBLIC_KEY)) -}}
{{- fail "No key for tokens: set secrets.JWT_SECRET (`openssl rand -base64 48`), settings.JWT_PUBLIC_KEY, or existingSecret. Each pod would make one of its own." -}}
{{- end -}}
{{- if and $own .Values.processor.enabled (not $has.PROCESSOR_TOKEN) -}}
{{- fail "No PROCESSOR_TOKEN: set secrets.PROCESSOR_TOKEN (`openssl rand -base64 48`), or existingSecret, or processor.enabled=false." -}}
{{- end -}}
{{- if eq (include "media-proxy.isShared" .) "yes" -}}
{{- if and $own (not $has.DATABASE_URL) -}}
{{- fail "Several pods need one database: set secrets.DATABASE_URL to a PostgreSQL; or proxy.replicas=1, proxy.autoscaling.enabled=false and worker.enabled=false." -}}
{{- end -}}
{{- if not (has (lower (toString .Values.settings.MEDIA_LOCAL_STORE)) (list "off" "false" "no" "0")) -}}
{{- fail "Several pods cannot keep objects in the folder of one: set settings.MEDIA_LOCAL_STORE to \"off\" (in quotes), and MINIO_ENDPOINT or S3_BUCKET_NAME." -}}
{{- end -}}
{{- if and $has.JWT_PUBLIC_KEY $own (not $has.MEDIA_URL_SECRETS) -}}
{{- fail "With JWT_PUBLIC_KEY several pods need secrets.MEDIA_URL_SECRETS: each would sign addresses for uploads with a secret of its own." -}}
{{- end -}}
{{- end -}}
{{- if and (not .Values.proxy.persistence.enabled) (not (has (lower (toString .Values.settings.MEDIA_LOCAL_STORE)) (list "off" "false" "no" "0"))) -}}
{{- fail "Without a volume the folder of a pod goes with it: set proxy.persistence.enabled=true, or settings.MEDIA_LOCAL_STORE to \"off\"." -}}
{{- end -}}
{{- if and (not .Values.proxy.persistence.enabled) $own (not $has.DATABASE_URL) -}}
{{- fail "Without a volume the records go with the pod: set proxy.persistence.enabled=true, or secrets.DATABASE_URL." -}}
{{- end -}}
{{- if and .Values.serviceMonitor.enabled (not .Values.serviceMonitor.networks) -}}
{{- fail "/metrics is for operators only: set serviceMonitor.networks to the network of Prometheus' pods, such as [10.42.0.0/16]." -}}
{{- end -}}
{{- if and .Values.serviceMonitor.networks .Values.settings.MEDIA_OPERATOR_NETWORKS -}}
{{- fail "serviceMonitor.networks and settings.MEDIA_OPERATOR_NETWORKS are both set: keep one." -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.host) -}}
{{- fail "ingress.enabled needs ingress.host." -}}
{{- end -}}
{{- if and .Values.gateway.enabled (not .Values.gateway.parentRefs) -}}
{{- fail "gateway.enabled needs gateway.parentRefs, such as [{name: public, namespace: gateways}]." -}}
{{- end -}}
{{- if and (eq .Values.ingress.controller "traefik") (eq .Values.ingress.stickiness "address") -}}
{{- fail "Traefik's Ingress keeps clients by a cookie only: set ingress.stickiness=cookie, or use its own resources." -}}
{{- end -}}
{{- end -}}
