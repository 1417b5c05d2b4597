"""An analysis as plain values, for other programs to read."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from finetune.evaluation.across import AcrossContexts
from finetune.evaluation.analysis import Analyses, Analysis, Finding
from finetune.evaluation.claims import Measured
from finetune.evaluation.comparison import Comparison
from finetune.evaluation.contrasts import Contrast
from finetune.evaluation.rows import Row
from finetune.evaluation.statistics import Interval


def as_plain(analyses: Analyses) -> dict[str, Any]:
    """Returns all that is concluded, in values that JSON has; what isn't known or isn't finite is None."""
    return {
        "comparisons": [_analysis(analysis) for analysis in analyses.each],
        "across_contexts": [_across(each) for each in analyses.across],
    }


def _analysis(analysis: Analysis) -> dict[str, Any]:
    comparison = analysis.comparison
    return {
        "name": comparison.name,
        "split": comparison.split,
        "metric": comparison.metric,
        "better": comparison.direction.better,
        "examples": comparison.count,
        "asked": asdict(analysis.question),
        "conclusion": list(analysis.conclusion),
        "cautions": list(analysis.cautions),
        "rows": [_row(row, analysis, comparison) for row in comparison.rows],
        "findings": [_finding(finding) for finding in analysis.findings],
    }


def _row(row: Row, analysis: Analysis, comparison: Comparison) -> dict[str, Any]:
    return {
        "name": row.name,
        "schedule": row.label,
        "settings": row.settings,
        "context": dict(row.telling),
        "peak_rates": list(row.peaks),
        "runs": [
            {"run": str(run.path), "seed": run.record.identity.seed, "status": run.record.status, "score": score}
            for run in row.runs
            for score in [run.record.score(comparison.split) if run.record.has_scores else None]
        ],
        "diverged": row.diverged,
        "measures": {key: _measured(measured) for key, measured in analysis.measures[row.name].items()},
    }


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "context": finding.context,
        "differences": [_contrast(contrast) for contrast in finding.contrasts],
        "indistinguishable": [list(group) for group in finding.groups],
    }


def _contrast(contrast: Contrast) -> dict[str, Any]:
    return {
        "first": contrast.first,
        "second": contrast.second,
        "seeds": list(contrast.seeds),
        "differences": list(contrast.differences),
        "mean": contrast.differences_mean if contrast.differences else None,
        "interval": _interval(contrast.interval),
        "interval_over_examples": _interval(contrast.bootstrap),
        "p_value": contrast.p_value,
        "adjusted_p_value": contrast.adjusted,
        "equivalence_p_value": contrast.equivalence,
        "verdict": contrast.verdict,
        "seeds_needed": contrast.seeds_needed,
    }


def _across(across: AcrossContexts) -> dict[str, Any]:
    return {
        "schedule": across.schedule,
        "contexts": across.contexts,
        "runs": across.runs,
        "mean_rank": _interval(across.mean_rank),
        "interquartile_mean": _interval(across.interquartile_mean),
        "spreads": {what: _measured(measured) for what, measured in across.spreads.items()},
    }


def _measured(measured: Measured) -> dict[str, Any]:
    return {"value": _interval(measured.value), "runs": measured.runs, "note": measured.note}


def _interval(interval: Interval | None) -> dict[str, Any] | None:
    if interval is None:
        return None
    bounds = {"mean": interval.estimate, "low": interval.low, "high": interval.high}
    return {name: value if math.isfinite(value) else None for name, value in bounds.items()}
