"""The closed loop: forecaster, operator and pools over recorded weeks, beside the replay's own policy on the same jobs.

For each trace the replay serves the window with its policy, and then the operator does, from plans that the forecaster
publishes: right, stopped, stopping midway, times 0, times 100, two and thirty minutes late. Without a folder of traces,
a drawn day is served.
"""

import argparse
from pathlib import Path

import numpy as np
from capacity_traces import Trace, load_traces, stable_diffusion
from measuring import report

from halfdrop.deploy.closed_loop import FAULTS, OperatedPool, make_policy
from halfdrop.forecaster.plan import PlanPolicy
from halfdrop.forecaster.planned_policy import PLAN_HORIZONS_MINUTES, PlannedPolicy
from halfdrop.forecaster.queue_simulator import PoolRules, Timeline, simulate
from halfdrop.forecaster.replay import LEARN_MINUTES, first_replicas, learn_plan, price_window
from halfdrop.forecaster.workload import draw_jobs

DAY_MINUTES = 1_440
SEED = 20261127


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", help="recorded traces; without it, a drawn day is served")
    parser.add_argument("--only", nargs="+", default=["stable_diffusion"], help="names of traces, or `all`")
    parser.add_argument("--faults", nargs="+", default=list(FAULTS), choices=list(FAULTS))
    given = parser.parse_args()
    served = {trace.name: serve(trace, given.faults) for trace in traces_of(given.folder, given.only)}
    every = [run for trace in served.values() for name, run in trace.items() if name != "replay"]
    report(
        "closed_loop",
        {
            "flaps": sum(run["flaps"] for run in every),
            "below_floor": sum(run["below_floor"] for run in every),
            "over_maximum": sum(run["over_maximum"] for run in every),
            "decisions": sum(run["decisions"] for run in every),
            "gpu_hours_over_replay_max": max(trace["right"]["gpu_hours_over_replay"] for trace in served.values())
            if "right" in given.faults
            else None,
            "traces": served,
            "seed": SEED,
        },
    )


def traces_of(folder: Path | None, only: list[str]) -> list[Trace]:
    if folder is None:
        return [drawn_day()]
    if only == ["stable_diffusion"]:
        return [stable_diffusion(folder / "genai_sd_requests.csv.gz")]
    return [trace for trace in load_traces(folder) if only == ["all"] or trace.name in only]


def drawn_day() -> Trace:
    """Three days of a seasonal demand to learn from, and one to serve."""
    minutes = np.arange(4 * DAY_MINUTES)
    dice = np.random.default_rng(SEED)
    day = 20 + 12 * np.sin(2 * np.pi * (minutes / DAY_MINUTES - 0.3)) + 6.0 * (minutes % 60 < 5)
    demand = np.maximum(1.0, day + dice.normal(0, 2, len(minutes)))
    workload = draw_jobs(demand[-DAY_MINUTES:], seed=SEED, start_minute=3 * DAY_MINUTES)
    return Trace(name="drawn_day", history=demand[:-DAY_MINUTES], workload=workload, gaps=demand[-DAY_MINUTES:])


def serve(trace: Trace, faults: list[str]) -> dict[str, dict[str, float]]:
    timeline, rules, policy = Timeline(trace.workload), PoolRules(), PlanPolicy()
    ready = first_replicas(trace.history)
    history, service_s = trace.history[-LEARN_MINUTES:], trace.workload.mean_service_s
    window = np.where(np.isnan(trace.gaps), np.nan, trace.workload.work_per_minute())
    learnt = learn_plan(
        history,
        window,
        start_minute=trace.workload.start_minute - len(history),
        service_s=service_s,
        horizons=PLAN_HORIZONS_MINUTES,
    )
    wanted, log_prices = price_window(
        history[learnt.known_from :], window, learnt=learnt, rules=rules, policy=policy, service_s=service_s
    )
    ours = PlannedPolicy(wanted, policy=policy, rules=rules, log_prices=log_prices, is_corrected=True)
    replay = simulate(timeline, ours, rules=rules, replicas=ready)
    found: dict[str, dict[str, float]] = {
        "replay": {"late_share": round(replay.late_share, 5), "gpu_hours": round(replay.gpu_hours, 1)}
    }
    maximum = 4 * max(int(replay.replicas.max()), 1)
    for name in faults:
        pool = OperatedPool(
            learnt.quantiles[-len(window) :],
            wanted,
            log_prices,
            policy=make_policy(maximum),
            rules=rules,
            fault=FAULTS[name],
        )
        outcome = simulate(timeline, pool, rules=rules, replicas=ready)
        counted = pool.counted
        found[name] = {
            "late_share": round(outcome.late_share, 5),
            "gpu_hours": round(outcome.gpu_hours, 1),
            "gpu_hours_over_replay": round(outcome.gpu_hours / replay.gpu_hours, 4),
            "flaps": counted.flaps,
            "regrets": counted.regrets,
            "below_floor": counted.below_floor,
            "over_maximum": counted.over_maximum,
            "decisions": counted.decisions,
        }
    return found


if __name__ == "__main__":
    main()
