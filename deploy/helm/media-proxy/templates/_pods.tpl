{{- /* What all pods have: (dict "root" $ "part" "proxy" "values" .Values.proxy) */ -}}
{{- define "media-proxy.pod" -}}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
serviceAccountName: {{ include "media-proxy.account" .root }}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  {{- toYaml .root.Values.podSecurityContext | nindent 2 }}
{{- with .values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "media-proxy.selector" (dict "root" .root "part" .part) | nindent 8 }}
{{- end -}}

{{- define "media-proxy.podMetadata" -}}
labels:
  {{- include "media-proxy.labels" (dict "root" .root "part" .part) | nindent 2 }}
annotations:
  # Pods are replaced when what they read at their start has changed.
  checksum/config: {{ include (print .root.Template.BasePath "/configmap.yaml") .root | sha256sum }}
  checksum/secret: {{ include (print .root.Template.BasePath "/secret.yaml") .root | sha256sum }}
  {{- with .values.podAnnotations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{- define "media-proxy.image.lines" -}}
image: {{ include "media-proxy.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- end -}}

{{- define "media-proxy.files.mounts" -}}
{{- if or .Values.files.presets .Values.files.profiles }}
- name: files
  mountPath: /etc/media-proxy/files
  readOnly: true
{{- end }}
{{- include "media-proxy.watermarks.mounts" . }}
{{- end -}}

{{- define "media-proxy.watermarks.mounts" -}}
{{- if .Values.watermarksConfigMap }}
- name: watermarks
  mountPath: /etc/media-proxy/watermarks
  readOnly: true
{{- end }}
{{- end -}}

{{- define "media-proxy.files.volumes" -}}
{{- if or .Values.files.presets .Values.files.profiles }}
- name: files
  configMap:
    name: {{ include "media-proxy.fullname" . }}-files
{{- end }}
{{- include "media-proxy.watermarks.volumes" . }}
{{- end -}}

{{- define "media-proxy.watermarks.volumes" -}}
{{- with .Values.watermarksConfigMap }}
- name: watermarks
  configMap:
    name: {{ . }}
{{- end }}
{{- end -}}

{{- /* SIGTERM ends what listens: first the pod is taken out of rotation everywhere, which takes moments. */ -}}
{{- define "media-proxy.stop" -}}
terminationGracePeriodSeconds: {{ add (ceil (float64 (default 30 .Values.settings.MEDIA_DRAIN)) | int) .Values.preStopSeconds 10 }}
{{- end -}}
