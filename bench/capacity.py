"""What forecasting GPU-work saves: our one shipped policy, seven rivals with every knob, and the clairvoyant bound.

    python bench/capacity.py TRACES_FOLDER [--only stable_diffusion …]

Each recorded trace is served for its last seven days, at one-second ticks, by GPUs that take 4 to 8 minutes to boot.
A job is late if it waits over 10 s. Nothing of ours is tuned for a trace: the policy is `PlanPolicy()` as shipped. A
rival is swept over one knob; it is given up once over 1 % of its jobs are late, since none of our goals asks further.
"""

import argparse
import math
import time
from pathlib import Path

import msgspec
import numpy as np
from capacity_traces import Trace, drawn, load_traces
from measuring import report

from halfdrop.forecaster.calibration import JUDGED_QUANTILE, QUANTILES, coverage, pinball
from halfdrop.forecaster.forecast import HORIZONS_MINUTES, Forecasts, SeriesForecaster
from halfdrop.forecaster.oracle import find_oracle
from halfdrop.forecaster.plan import PlanPolicy
from halfdrop.forecaster.queue_simulator import PoolRules, Timeline, simulate
from halfdrop.forecaster.replay import KNOBS, RIVALS, first_replicas, make_rival, plan_replay
from halfdrop.forecaster.workload import FloatArray

LATE_BUDGET = 0.01
HISTORY_DAYS = 15
DAY_MINUTES = 1_440
BOOT_HORIZON_MINUTES, FAR_HORIZON_MINUTES = 9, 60


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """Everything measured on one trace. Ratios are GPU-hours ÷ the oracle's."""

    name: str
    late: float
    ratio: float
    oracle_gpu_hours: float
    rivals: dict[str, dict[float, float]]
    """Ratio by rival and knob, only of those that kept the budget."""

    pinball_ratio: float
    pinball_ratio_calibrated: float
    coverage_errors: dict[float, float]
    forecast_ms: float
    replay_s: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="recorded traces; without it, a drawn day is served")
    parser.add_argument("--weeks-back", type=int, default=0, help="serve an earlier week, so many before the last")
    parser.add_argument("--without-rivals", action="store_true", help="ours and the oracle only")
    parser.add_argument("--keep", type=Path, help="folder to keep each trace's figures in, and to find them in again")
    parser.add_argument("--only", nargs="+", default=[], help="names of traces; all of them if absent")
    wanted = parser.parse_args()
    found = load_traces(wanted.folder, weeks_back=wanted.weeks_back) if wanted.folder else [drawn()]
    traces = [trace for trace in found if not wanted.only or trace.name in wanted.only]
    judged = []
    for trace in traces:
        judged.append(judge_once(trace, wanted.keep, with_rivals=not wanted.without_rivals))
        print_table(judged[-1])
    report("capacity", sum_up(judged))


def judge_once(trace: Trace, keep: Path | None, *, with_rivals: bool) -> Judged:
    """Judge a trace, or take what an earlier run of this code kept: a folder takes an hour of a busy core."""
    stem = f"{trace.name}-{trace.workload.start_minute}"
    ours_file, rivals_file = (keep / f"{stem}{end}.json" if keep else None for end in ("", "-rivals"))
    if ours_file and ours_file.exists():
        ours = msgspec.json.decode(ours_file.read_bytes(), type=Judged)
    else:
        ours = judge(trace, PoolRules())
        if ours_file:
            ours_file.write_bytes(msgspec.json.encode(ours))
    if rivals_file and rivals_file.exists():
        rivals = msgspec.json.decode(rivals_file.read_bytes(), type=dict[str, dict[float, float]])
    elif with_rivals:
        rivals = sweep(trace, ours.oracle_gpu_hours, PoolRules())
        if rivals_file:
            rivals_file.write_bytes(msgspec.json.encode(rivals))
    else:
        return ours
    return msgspec.structs.replace(ours, rivals=rivals)


def judge(trace: Trace, rules: PoolRules) -> Judged:
    """Forecast the trace, serve it with everybody, and return the figures."""
    history = trace.history[-HISTORY_DAYS * DAY_MINUTES :]
    begun = time.process_time()
    forecaster = SeriesForecaster(start_minute=trace.workload.start_minute - len(history))
    forecaster.extend(history)
    forecasts = forecaster.extend(trace.gaps)
    forecast_s = time.process_time() - begun
    timeline = Timeline(trace.workload)
    oracle = find_oracle(timeline, rules=rules, late_budget=LATE_BUDGET)
    replicas = first_replicas(history)
    before_replay = time.process_time()
    policy = plan_replay(
        history,
        trace.gaps,
        start_minute=trace.workload.start_minute - len(history),
        service_s=trace.workload.mean_service_s,
        rules=rules,
        policy=PlanPolicy(),
    )
    ours = simulate(timeline, policy, rules=rules, replicas=replicas)
    replay_s = time.process_time() - before_replay
    print(
        f"\n{trace.name}: {len(history) / DAY_MINUTES:.0f} days before, {ours.jobs} jobs, "
        f"oracle {oracle.gpu_hours / oracle.work_hours:.3f} × the work, {oracle.late_share:.2%} late"
    )
    ratio, calibrated, coverage = judge_forecasts(history, trace.gaps, forecasts)
    return Judged(
        name=trace.name,
        late=ours.late_share,
        ratio=ours.gpu_hours / oracle.gpu_hours,
        rivals={name: {} for name in RIVALS},
        oracle_gpu_hours=oracle.gpu_hours,
        pinball_ratio=ratio,
        pinball_ratio_calibrated=calibrated,
        coverage_errors=coverage,
        forecast_ms=1e3 * forecast_s / (len(history) + len(trace.gaps)),
        replay_s=replay_s,
    )


def sweep(trace: Trace, oracle_gpu_hours: float, rules: PoolRules) -> dict[str, dict[float, float]]:
    """Serve the workload with every rival at every knob; keep the ratios of those that are in time."""
    history = trace.history[-HISTORY_DAYS * DAY_MINUTES :]
    timeline, replicas = Timeline(trace.workload), first_replicas(history)
    minutes = timeline.workload.length_s // 60
    found: dict[str, dict[float, float]] = {}
    for name in RIVALS:
        found[name] = {}
        late_in_a_row = 0
        for knob in sorted(KNOBS):
            rival = make_rival(name, knob, history, minutes)
            served = simulate(timeline, rival, rules=rules, replicas=replicas, give_up_share=LATE_BUDGET)
            if not served.is_whole or served.late_share > LATE_BUDGET:
                late_in_a_row += 1
                if late_in_a_row == 2:
                    break
                continue
            late_in_a_row = 0
            found[name][knob] = served.gpu_hours / oracle_gpu_hours
    return found


def judge_forecasts(
    history: FloatArray, window: FloatArray, forecasts: Forecasts
) -> tuple[float, float, dict[float, float]]:
    """Return q0.9 pinball ÷ last value, ÷ last value with its own past 0.9 quantile, and coverage less nominal."""
    far = forecasts.quantiles[:-FAR_HORIZON_MINUTES, HORIZONS_MINUTES.index(FAR_HORIZON_MINUTES), JUDGED_QUANTILE]
    last, came = window[:-FAR_HORIZON_MINUTES], window[FAR_HORIZON_MINUTES:]
    is_known = ~(np.isnan(last) | np.isnan(came))
    far, last, came = far[is_known], last[is_known], came[is_known]
    steps = np.sqrt(history[FAR_HORIZON_MINUTES:]) - np.sqrt(history[:-FAR_HORIZON_MINUTES])
    margin = float(np.nanquantile(steps[-7 * DAY_MINUTES :], 0.9))
    ours = pinball(far, came, 0.9).mean()
    plain, calibrated = pinball(last, came, 0.9).mean(), pinball((np.sqrt(last) + margin) ** 2, came, 0.9).mean()
    near = forecasts.quantiles[:-BOOT_HORIZON_MINUTES, HORIZONS_MINUTES.index(BOOT_HORIZON_MINUTES)]
    came = window[BOOT_HORIZON_MINUTES:]
    is_known = ~np.isnan(came)
    zeros = forecasts.zero_shares[:-BOOT_HORIZON_MINUTES, HORIZONS_MINUTES.index(BOOT_HORIZON_MINUTES)]
    covered = coverage(near[is_known], zeros[is_known], came[is_known])
    errors = {level: round(float(share - level), 4) for level, share in zip(QUANTILES, covered, strict=True)}
    return float(ours / plain), float(ours / calibrated), errors


def print_table(judged: Judged) -> None:
    """Print one trace: ours, and each rival's cheapest knob in time."""
    print(f"  {'halfdrop as shipped':22} {judged.ratio:6.3f} × oracle  late {judged.late:.2%}")
    for name, by_knob in judged.rivals.items():
        if by_knob:
            knob = min(by_knob, key=lambda each: by_knob[each])
            print(f"  {name:22} {by_knob[knob]:6.3f} × oracle  at its best knob in hindsight, {knob}")
        else:
            print(f"  {name:22}      –           over 1 % late at every knob")
    print(
        f"  q0.9 pinball at 60 min: {judged.pinball_ratio:.3f} × last value, {judged.pinball_ratio_calibrated:.3f} × "
        f"last value with a margin; coverage less nominal at 9 min: {judged.coverage_errors}",
        flush=True,
    )


def sum_up(judged: list[Judged]) -> dict[str, object]:
    """Return the figures of the issue, and what they are made of."""
    ratios = [each.ratio for each in judged]
    fixed: dict[str, float] = {}
    for name in RIVALS:
        for knob in KNOBS:
            found = [each.rivals[name].get(knob) for each in judged]
            if all(value is not None for value in found):
                fixed[f"{name} at {knob}"] = geometric_mean([value for value in found if value is not None])
    best = min(fixed, key=lambda each: fixed[each]) if fixed else None
    hindsight = [
        each.ratio / min(value for by_knob in each.rivals.values() for value in by_knob.values())
        for each in judged
        if any(each.rivals.values())
    ]
    return {
        "late_worst": round(max(each.late for each in judged), 5),
        "late": {each.name: round(each.late, 5) for each in judged},
        "oracle_ratio_geomean": round(geometric_mean(ratios), 4),
        "oracle_ratios": {each.name: round(each.ratio, 4) for each in judged},
        "sd_oracle_ratio": next((round(each.ratio, 4) for each in judged if each.name == "stable_diffusion"), None),
        "best_rival": best,
        "best_rival_ratio": round(geometric_mean(ratios) / fixed[best], 4) if best else None,
        "rivals_in_time_on_every_trace": {name: round(value, 3) for name, value in fixed.items()},
        "worst_against_rival_in_hindsight": round(max(hindsight), 4) if hindsight else None,
        "pinball_ratio": round(float(np.mean([each.pinball_ratio for each in judged])), 4),
        "pinball_ratio_calibrated": round(float(np.mean([each.pinball_ratio_calibrated for each in judged])), 4),
        "coverage_error": max(abs(error) for each in judged for error in each.coverage_errors.values()),
        "ms_per_series": round(max(each.forecast_ms for each in judged), 3),
        "replay_week_cpu_s": round(max(each.replay_s for each in judged), 2),
    }


def geometric_mean(values: list[float]) -> float:
    return math.exp(sum(math.log(value) for value in values) / len(values))


if __name__ == "__main__":
    main()
