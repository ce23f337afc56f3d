"""What FFmpeg may open: the demuxer of each format of ours, and the codecs. Everything else is refused, whatever a file says."""

from __future__ import annotations

DEMUXERS = {
    **{"mp4": "mov", "mov": "mov", "m4a": "mov", "webm": "matroska", "mkv": "matroska", "ogv": "ogg", "ogg": "ogg"},
    **{"mp3": "mp3", "wav": "wav", "flac": "flac", "aac": "aac"},
}
CODECS = frozenset(
    (
        *("h264", "hevc", "vp8", "vp9", "libdav1d", "av1", "mpeg4", "mpeg2video", "mpeg1video", "mjpeg", "prores"),
        *("h263", "theora", "aac", "mp3float", "mp3", "opus", "libopus", "vorbis", "flac", "alac", "ac3", "eac3", "amrnb", "amrwb"),
        *("pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s32le", "pcm_f32le", "pcm_u8", "pcm_alaw", "pcm_mulaw"),
    )
)
MAX_STREAMS = 64
