"""Monitoring as code: alerts, panels and what makes files of them, all from `operations/thresholds.py`."""
