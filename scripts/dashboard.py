"""Draw the panels of `operations/monitoring/panels.py` with Grafana's own builders."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard, prometheus, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common, units
from grafana_foundation_sdk.models import dashboard as models

from knowledge_system.operations.monitoring.panels import TITLE, UID, Panel, dashboard_rows

if TYPE_CHECKING:
    from knowledge_system.operations.thresholds import Unit

DATASOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
COLUMNS, WIDTH, HEIGHT = 24, 8, 8
UNITS: dict[Unit, str] = {
    "s": units.Seconds,
    "bytes": units.BytesSI,
    "ratio": units.PercentUnit,
    "USD": units.Dollars,
    "per_minute": units.CountsPerMinute,
    "per_second": units.CountsPerSecond,
    "count": units.Short,
    "state": units.Short,
}


def bare_model() -> dict[str, Any]:
    """Return the dashboard as provisioning and the import page read it."""
    board = (
        dashboard.Dashboard(TITLE)
        .uid(UID)
        .tags(["knowledge-system"])
        .editable()
        .refresh("30s")
        .time("now-6h", "now")
        .timezone("browser")
        .with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
    )
    y, number = 0, 0
    for row in dashboard_rows():
        number += 1
        board.with_row(dashboard.Row(row.title).id(number).grid_pos(_place(0, y, COLUMNS, 1)))
        y += 1
        for index, panel in enumerate(row.panels):
            number += 1
            line, column = divmod(index, COLUMNS // WIDTH)
            place = _place(column * WIDTH, y + line * HEIGHT, WIDTH, HEIGHT)
            board.with_panel(_drawn(panel).id(number).grid_pos(place))
        y += -(-len(row.panels) // (COLUMNS // WIDTH)) * HEIGHT
    document: dict[str, Any] = _without_nulls(json.loads(JSONEncoder(sort_keys=True).encode(board.build())))
    return document


def api_body() -> dict[str, Any]:
    """Return the dashboard as `POST /api/dashboards/db` takes it."""
    return {"dashboard": {**bare_model(), "id": None}, "overwrite": True, "message": "knowledge-system"}


def _without_nulls(tree: Any) -> Any:
    """Leave out what the builders say of things nobody set; a threshold's lowest step keeps its null."""
    if isinstance(tree, list):
        return [_without_nulls(one) for one in tree]
    if not isinstance(tree, dict):
        return tree
    return {key: _without_nulls(value) for key, value in tree.items() if value is not None or key == "value"}


def _place(x: int, y: int, width: int, height: int) -> models.GridPos:
    return models.GridPos(h=height, w=width, x=x, y=y)


def _drawn(panel: Panel) -> timeseries.Panel:
    steps = [models.Threshold(value=None, color=panel.base)]
    steps += [models.Threshold(value=value, color=colour) for value, colour in panel.limits]
    drawn = (
        timeseries.Panel()
        .title(panel.title)
        .description(panel.shows)
        .datasource(DATASOURCE)
        .unit(UNITS[panel.unit])
        .min(0)
        .thresholds(dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps))
        .thresholds_style(common_builders.GraphThresholdsStyleConfig().mode(_style(panel)))
    )
    if panel.names:
        texts = {f"{value:g}": models.ValueMappingResult(text=text) for value, text in panel.names}
        drawn.mappings([models.ValueMap(options=texts)])
    for index, query in enumerate(panel.queries):
        asked = prometheus.Dataquery().expr(query.expr).legend_format(query.legend).range()
        drawn.with_target(asked.datasource(DATASOURCE).ref_id(chr(ord("A") + index)))
    return drawn


def _style(panel: Panel) -> common.GraphTresholdsStyleMode:
    return common.GraphTresholdsStyleMode.LINE if panel.limits else common.GraphTresholdsStyleMode.OFF
