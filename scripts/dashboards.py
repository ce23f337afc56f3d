"""Writes deploy/grafana/dashboards/*.json: what Grafana shows of the service, as tables of panels. Standard library only.

A panel is its title, its unit, what it tells, and its queries with their legends; `python3 scripts/dashboards.py` writes the files.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent.parent / "deploy" / "grafana" / "dashboards"
SOURCE = {"type": "prometheus", "uid": "media-prometheus"}
COLUMNS, HEIGHT = 24, 8
WINDOW = "$__rate_interval"
CHOSEN = 'job=~"$job", instance=~"$instance"'
"""What a viewer chooses above the panels. Recorded rules (``media:…``) are sums over all."""
VARIABLES = (
    ("job", "label_values(media_resident_bytes, job)"),
    ("instance", 'label_values(media_resident_bytes{job=~"$job"}, instance)'),
)
_METRIC = re.compile(r"\b(media_\w+)(?:\{([^}]*)\})?")


@dataclass(frozen=True)
class Panel:
    """*queries* are pairs of an expression and a legend; *stat* shows one figure. From *limit* on it is red, or a line is drawn."""

    title: str
    unit: str
    about: str
    queries: tuple[tuple[str, str], ...]
    stat: bool = False
    limit: float | None = None
    width: int = 8

    def json(self, number: int, x: int, y: int) -> dict[str, Any]:
        """As Grafana has it."""
        steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
        if self.limit is not None:
            steps.append({"color": "red", "value": self.limit})
        return {
            "id": number,
            "type": "stat" if self.stat else "timeseries",
            "title": self.title,
            "description": self.about,
            "datasource": SOURCE,
            "gridPos": {"x": x, "y": y, "w": self.width, "h": HEIGHT // 2 if self.stat else HEIGHT},
            "fieldConfig": {
                "defaults": {
                    "unit": self.unit,
                    "thresholds": {"mode": "absolute", "steps": steps},
                    "custom": {} if self.stat or self.limit is None else {"thresholdsStyle": {"mode": "line"}},
                },
                "overrides": [],
            },
            "targets": [
                {"refId": chr(ord("A") + place), "datasource": SOURCE, "expr": chosen(expr), "legendFormat": legend}
                for place, (expr, legend) in enumerate(self.queries)
            ],
        }


def chosen(expr: str) -> str:
    """The expression, of those jobs and instances alone that are chosen."""
    return _METRIC.sub(lambda found: f"{found[1]}{{{', '.join(filter(None, (found[2], CHOSEN)))}}}", expr)


def rate(metric: str, by: str = "", where: str = "") -> str:
    """The rate of a counter, summed over all but *by*."""
    return f"sum {f'by ({by}) ' if by else ''}(rate({metric}{{{where}}}[{WINDOW}]))"


def quantile(share: float, metric: str, by: str = "", where: str = "") -> str:
    """A quantile of a histogram."""
    return f"histogram_quantile({share}, {rate(f'{metric}_bucket', f'{by}, le'.removeprefix(', '), where)})"


def stat(title: str, unit: str, about: str, expr: str, limit: float | None = None) -> Panel:
    """One figure."""
    return Panel(title, unit, about, ((expr, ""),), stat=True, limit=limit, width=4)


ANSWERED = 'outcome!="gone"'
OVERVIEW = (
    stat("Proxies", "short", "Proxies that answer.", 'count(up{job="media-proxy"} == 1)'),
    stat("Requests", "reqps", "Answers each second.", rate("media_request_seconds_count")),
    stat("Errors", "percentunit", "Answers that are errors of ours.", "media:errors:ratio", 0.02),
    stat("P95", "s", "One picture in twenty takes longer.", quantile(0.95, "media_request_seconds", "", 'route="media"'), 2.5),
    stat("Disk free", "percentunit", "Of the data folder's disk, at the fullest machine.",
         "min(media_disk_free_bytes / (media_disk_bytes > 0))"),
    stat("Withheld", "short", "Objects that are quarantined.", "max(media_withheld)", 1),
    stat("Originals", "short", "Objects in all stores.", "sum(max by (store) (media_stored_objects))"),
    stat("Stored", "bytes", "Bytes of the originals in all stores.", "sum(max by (store) (media_stored_bytes))"),
    Panel("Requests by route", "reqps", "Answers each second.", ((rate("media_request_seconds_count", "route"), "{{route}}"),)),
    Panel("Answers by kind", "reqps", "gone: the client left.", ((rate("media_request_seconds_count", "outcome"), "{{outcome}}"),)),
    Panel("Problems by code", "reqps", "What clients are refused, and why.", ((rate("media_problems_total", "code"), "{{code}}"),)),
    Panel("Uploads by kind", "reqps", "Stored, or the code of the problem.", (
        (rate("media_uploads_total", "kind, outcome"), "{{kind}} {{outcome}}"),
    )),
    Panel("Uploads by way", "reqps", "How what was stored came.", (
        (rate("media_uploads_total", "way", 'outcome="stored"'), "{{way}}"),
    )),
    Panel("Bytes stored by way", "Bps", "Of uploads.", ((rate("media_uploaded_bytes_total", "way"), "{{way}}"),)),
    Panel("Scanner", "short", "Its verdicts each second, and objects that wait for one.", (
        (rate("media_scan_seconds_count", "outcome"), "{{outcome}}"), ("max(media_scan_waiting)", "waiting"),
    )),
    Panel("Bytes in and out", "Bps", "Bodies of requests and of answers.", (
        (rate("media_received_bytes_total", "route"), "in {{route}}"), (rate("media_sent_bytes_total"), "out"),
    )),
    Panel("Stores", "short", "1: asked. 0: left alone after failures.", (("min by (store) (media_store_up)", "{{store}}"),)),
    Panel("What stores are owed", "short", "Copies and removals.", (("max by (store) (media_store_debts)", "{{store}}"),)),
    Panel("Jobs", "short", "In all processes.", (
        ("max(media_jobs_waiting)", "waiting"), ("max(media_jobs_running)", "running"),
    )),
    Panel("Events to the back end", "reqps", "dead: given up after hours.", (
        (rate("media_events_sent_total", "outcome"), "{{outcome}}"),
    )),
    Panel("Oldest in line", "s", "What waits longest: a job, an event.", (
        ("max(media_jobs_oldest_seconds)", "job"), ("max(media_events_oldest_seconds)", "event"),
    ), limit=1800),
)  # fmt: skip
PERFORMANCE = (
    *(
        Panel(f"P{share * 100:g} by route", "s", "From the first byte of the request to the last of the answer.", (
            (quantile(share, "media_request_seconds", "route", ANSWERED), "{{route}}"),
        ), limit=2.5 if share == 0.95 else None) for share in (0.5, 0.95, 0.99)
    ),
    Panel("Renditions: where they were", "percentunit", "memory, shared (Redis), stored, or made (miss).", (
        (f"{rate('media_renditions_total', 'found')} / on () group_left () {rate('media_renditions_total')}", "{{found}}"),
    )),
    Panel("Renditions made by type", "ops", "Each second.", ((rate("media_renders_total", "type"), "{{type}}"),)),
    Panel("Making a rendition", "s", "With the wait in the queue.", tuple(
        (quantile(share, "media_render_seconds"), f"P{share * 100:g}") for share in (0.5, 0.95, 0.99)
    )),
    Panel("Work of pictures", "short", "Jobs in work, and those that wait for a worker or for memory.", (
        ("sum(media_render_running)", "running"), ("sum(media_render_waiting)", "waiting"),
    )),
    Panel("Processors", "ops", "How attempts to have work done ended.", (
        (rate("media_processor_attempts_total", "outcome"), "{{outcome}}"),
    )),
    Panel("Redis", "ops", "late: no answer within 50 ms.", ((rate("media_redis_commands_total", "outcome"), "{{outcome}}"),)),
    Panel("Jobs", "s", "From claim to end.", (
        (quantile(0.5, "media_job_seconds", "outcome"), "P50 {{outcome}}"),
        (quantile(0.95, "media_job_seconds", "outcome"), "P95 {{outcome}}"),
    )),
    Panel("Memory", "bytes", "Of the largest HTTP process, of workers and processors, and of their picture workers together.", (
        ("media_resident_bytes", "{{job}} {{instance}}"), ("media_render_resident_bytes", "pictures {{instance}}"),
    ), limit=700e6),
    Panel("Refused for their rate", "reqps", "By limit.", ((rate("media_rate_limited_total", "limit"), "{{limit}}"),)),
)  # fmt: skip
CAPACITY = (
    Panel("Stored", "bytes", "Originals by store.", (("max by (store) (media_stored_bytes)", "{{store}}"),), width=12),
    Panel("Stored in 30 days", "bytes", "If it grows as in the last week.", (
        ("predict_linear(max by (store) (media_stored_bytes)[7d:1h], 30 * 86400)", "{{store}}"),
    ), width=12),
    Panel("Growth each day", "bytes", "Over the last day.", (("delta(max by (store) (media_stored_bytes)[1d:5m])", "{{store}}"),)),
    Panel("Objects", "short", "Originals by store.", (("max by (store) (media_stored_objects)", "{{store}}"),)),
    Panel("Owners who have most", "bytes", "Ten at most.", (("topk(10, max by (owner) (media_owner_bytes))", "{{owner}}"),)),
    Panel("Renditions on disk", "bytes", "Of the local store; bounded by MEDIA_VARIANTS_BYTES.", (
        ("sum(media_variants_bytes)", "on disk"), ("sum(media_cache_bytes)", "in memory"),
    )),
    Panel("Pushed out", "ops", "Renditions that made room for others.", ((rate("media_variants_evicted_total"), "each second"),)),
    Panel("Memory of pictures in work", "bytes", "Estimated, against MEDIA_DECODE_BUDGET.", (
        ("sum(media_render_reserved_bytes)", "reserved"),
    )),
)  # fmt: skip
DASHBOARDS = {
    "media-overview": ("Media Overview", OVERVIEW),
    "media-performance": ("Performance", PERFORMANCE),
    "media-capacity": ("Capacity", CAPACITY),
}


def dashboard(uid: str) -> dict[str, Any]:
    """One of them, as Grafana has it."""
    title, panels = DASHBOARDS[uid]
    placed, x, y, row = [], 0, 0, 0
    for number, panel in enumerate(panels, 1):
        if x + panel.width > COLUMNS:
            x, y = 0, y + row
        shown = panel.json(number, x, y)
        row, x = shown["gridPos"]["h"], x + panel.width
        placed.append(shown)
    return {
        "uid": uid, "title": title, "tags": ["media-proxy"], "schemaVersion": 39, "timezone": "browser", "editable": True,
        "refresh": "30s", "time": {"from": "now-6h" if uid != "media-capacity" else "now-30d", "to": "now"}, "panels": placed,
        "templating": {"list": [
            {
                "name": name, "label": name, "type": "query", "datasource": SOURCE, "query": query, "refresh": 2, "multi": True,
                "includeAll": True, "allValue": ".*", "current": {"text": "All", "value": "$__all"},
            } for name, query in VARIABLES
        ]},
    }  # fmt: skip


def text(uid: str) -> str:
    """The file of one of them."""
    return json.dumps(dashboard(uid), indent=1) + "\n"


if __name__ == "__main__":
    for name in DASHBOARDS:
        (FOLDER / f"{name}.json").write_text(text(name), encoding="utf-8")
