"""What the page says of each part."""

from __future__ import annotations

from statistics import median
from typing import Any

from benchmarks import shop
from benchmarks.parts.peers import LACKS
from benchmarks.parts.simulation import TEXTBOOK, over
from benchmarks.peers.install import MABWISER, OBP, PYMAB

PATHS = {
    "new": "assign, a new unit each",
    "known": "assign, a unit that has its assignment",
    "naive": "a SQLModel session and a commit per request, in a thread pool (not Rialto: for contrast)",
    "events_1": "events, 1 per body",
    "events_100": "events, 100 per body, 16 connections",
    "events_1000": "events, 1,000 per body, 8 connections",
    "orders_1": "orders alone, 1 per body",
    "orders_1000": "orders alone, 1,000 per body, 8 connections",
}


def paths(data: dict[str, Any]) -> list[str]:
    """The paths of a part, one a row."""
    head = "| path | per second | least to most | nothing beside it | ratio | CPU ratio | CPU µs | "
    rows = [f"{head}p50 / p99 ms | answers |", "|---|---|---|---|---|---|---|---|---|"]
    for name, row in data["paths"].items():
        rates = row["rates"]
        cpu = f"{row['cpu_us']:.0f} + {row['beside_cpu_us']:.0f}"
        answers = ", ".join(f"{count:,} {reason}" for reason, count in row["answers"].items()) or "all taken"
        rows.append(
            f"| {PATHS[name]} | {median(rates):,.0f} | {min(rates):,.0f} to {max(rates):,.0f} "
            f"| {median(row['nothing_rates']):,.0f} | {median(row['ratios']):.2f} "
            f"| {median(row['cpu_ratios']):.2f} | {cpu} "
            f"| {row['latency_ms']['p50']:.1f} / {row['latency_ms']['p99']:.1f} | {answers} |"
        )
    for table, count in data["ledger"].items():
        if count["acknowledged"]:
            more = count["held"] - count["acknowledged"]
            surplus = f", and {more:,} answered without being acknowledged" if more else ""
            taken = f"{count['acknowledged']:,} acknowledged, all in the ledger"
            rows += ["", f"Rows of {table}: {taken}{surplus}."]
    rows += ["", "Latencies are wrk's, at saturation."]
    rows.append("CPU µs an item: the server's process + those beside it (the folder's, PostgreSQL's).")
    if "server" in data:
        rows.append(f"The server is PostgreSQL {data['server']}, started for this, with fsync on.")
    if any(name.startswith("events") for name in data["paths"]):
        rows.append(
            "An event is one of a storefront's mix (of ten: 4 exposures, a click, 2 product views, a cart, a "
            "checkout, an order), each with a random key never seen, of 20,000 assigned units."
        )
    return rows


def lone(data: dict[str, Any]) -> list[str]:
    """One connection, one request at a time."""
    names = {"nothing": "nothing", "new": PATHS["new"], "known": PATHS["known"]}
    rows = ["| one connection, one request at a time | p50 ms | p99 ms |", "|---|---|---|"]
    return rows + [
        f"| {names[name]} | {found['p50']:.2f} | {found['p99']:.2f} |" for name, found in data["lone"].items()
    ]


def latency(data: dict[str, Any]) -> list[str]:
    """The open loop."""
    rows = [
        f"A generator of its own sends {data['rate']:,} requests a second, half of what saturates assign, "
        "each due at an instant fixed before; latency counts from that instant, so that what a stall "
        "holds up counts. *Late* is what the generator itself adds.",
        "",
        "| | p50 ms | p90 ms | p99 ms | p99.9 ms | late p99 ms | not decided |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in ("nothing", "assign"):
        runs = [found[name] for found in data["rounds"]]
        cells = [
            f"{median(run[key] for run in runs):.2f}"
            for key in ("p50_ms", "p90_ms", "p99_ms", "p99.9_ms", "late_p99_ms")
        ]
        undecided = sum(run["strange"] for run in runs)
        asked = sum(run["requests"] for run in runs)
        rows.append(f"| {name} | {' | '.join(cells)} | {undecided:,} of {asked:,} |")
    sync = data["fdatasync"]
    return [
        *rows,
        "",
        "One append of 8 KiB with fdatasync on the same disk, between the rounds: p50 "
        f"{sync['p50_ms']:.2f} ms, p99 {sync['p99_ms']:.2f} ms.",
    ]


def folding(data: dict[str, Any]) -> list[str]:
    """Taking and folding."""
    rows = [
        "| taken for | events a second | waiting then | folded a second | of the rate of taking | "
        "CPU µs to take | CPU µs to fold | ratio |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in data["behind"]:
        folded = (
            f"{one['fold_per_s']:,.0f} | {one['rate_ratio']:.2f} | {one['ingest_cpu_us']:.0f} | "
            f"{one['fold_cpu_us']:.0f} | {one['cpu_ratio']:.2f}"
            if "fold_per_s" in one
            else "– | – | – | – | –"
        )
        rows.append(
            f"| {one['seconds']:.0f} s | {one['ingest_per_s']:,.0f} | {100 * one['share_waiting']:.0f} % | "
            f"{folded} |"
        )
    return [
        *rows,
        "",
        f"Events in bodies of 100, of {shop.KNOWN_UNITS:,} shoppers in no order, with the folder at work; "
        "then it has the process to itself. A unit is folded once, however many of its events wait: the "
        "longer the folder was kept from its work, the less an event costs it, until it keeps up. The more "
        "shoppers there are at a time, the later that is.",
    ]


def growth(data: dict[str, Any]) -> list[str]:
    """Bytes and rates at millions of rows."""
    rows = [
        "| ids | rows | bytes per assignment | of unit | of unit_key | ratio to 10,000 rows | CPU ratio |",
        "|---|---|---|---|---|---|---|",
    ]
    for kind in ("ordered", "random"):
        found, size = data[kind], data[kind]["bytes_per_row"]
        rows.append(
            f"| {kind} | {found['rows']:,} | {size['assignment']:.1f} | {size['unit']:.1f} | "
            f"{size['unit_key']:.1f} | {median(found['ratios']):.2f} | {median(found['cpu_ratios']):.2f} |"
        )
    unseen = data["random"]["unseen"]
    return [
        *rows,
        "",
        "Ids have 16 characters. Contexts and the folder's totals are not in these ledgers. Two "
        "processes, one on the small ledger and one on the big one, are driven in turn. A unit of the big "
        f"ledger that the process has not met is answered at {median(unseen['ratios']):.2f} of nothing's "
        f"rate (CPU ratio {median(unseen['cpu_ratios']):.2f}).",
    ]


def memory(data: dict[str, Any]) -> list[str]:
    """The process on its way to a million assignments."""
    steps = " → ".join(f"{resident:.0f}" for _, resident in data["resident_mb"])
    return [
        f"Resident MB of the process on the way to {data['assigned']:,} assignments, in batches of 1,000: "
        f"{steps}. The folder's process beside it: {data['beside_mb']:.0f} MB."
    ]


def reports(data: dict[str, Any]) -> list[str]:
    """Reports by units."""
    rows = ["| report, everything folded | milliseconds |", "|---|---|"]
    return rows + [
        f"| {int(units):,} units enrolled | {found:.0f} |" for units, found in data["milliseconds"].items()
    ]


def analysis(data: dict[str, Any]) -> list[str]:
    """The closed-form read-out beside gbstats, and by the number of events."""
    rows = [
        f"CPU of one process each, 10 variants, 8 metrics; gbstats {data['gbstats']} with flat priors. Its "
        "back end goes from rows to results, relative lifts with their intervals; its bare test classes are "
        "made of ready sums and give absolute and relative lifts; ours come from rollup cells: both lifts, "
        "P(best) over all ten, expected losses. The whole report has all metrics, guardrails, checks, "
        "sequences, sensitivity and verdicts, over seven days of enrolments.",
        "",
        "| what | ms | least to most |",
        "|---|---|---|",
    ]
    columns = {
        "Rialto, the figures of the 8 metrics": data["figures_ms"],
        "gbstats, as its back end calls it": data["gbstats_ms"],
        "gbstats, its bare test classes": data["bare_ms"],
    }
    for events, costs in data["report_ms"].items():
        columns[f"Rialto, the whole report, {int(events):,} events"] = costs
    return rows + [
        f"| {name} | {median(costs):.0f} | {min(costs):.0f} to {max(costs):.0f} |"
        for name, costs in columns.items()
    ]


def allocation(data: dict[str, Any]) -> list[str]:
    """Allocations beside the Monte Carlo of the same posteriors."""
    rows = [
        "CPU of this process for one allocation of one candidate set, from posteriors to integer shares, and "
        "for 100,000 NumPy draws of the same posteriors with the count of who is best, in turn.",
        "",
        "| policy, objective, arms | allocation ms | draws ms | ratio | least to most |",
        "|---|---|---|---|---|",
    ]
    for name, row in data["kinds"].items():
        least, most = (100 * bound(row["ratios"]) for bound in (min, max))
        rows.append(
            f"| {name} | {median(row['ms']):.2f} | {median(row['draws_ms']):.0f} "
            f"| {100 * median(row['ratios']):.2f} % | {least:.2f} to {most:.2f} % |"
        )
    return rows


def contextual(data: dict[str, Any]) -> list[str]:
    """Decisions by context beside linear Thompson sampling of bandit libraries."""
    labels = {
        "shares alone": "Rialto: every candidate's share, over 1,000 published draws, compiled",
        "not compiled": "Rialto: that without Numba",
        "ours": "Rialto: compiled, and the race of hashes",
        "pymab": f"pymab {PYMAB}, one draw, no propensity",
        "mabwiser": f"MABWiser {MABWISER}, one draw (one noise for all arms), no propensity",
    }
    rows = [
        "Five variants, ten columns, one context at a time; CPU of one thread, in turn. What learning costs "
        "is in no row: the libraries' updates go with each decision, ours with each version.",
        "",
        "| decision | microseconds | least to most |",
        "|---|---|---|",
    ]
    for name, label in labels.items():
        found = data["us"][name]
        rows.append(f"| {label} | {median(found):.1f} | {min(found):.1f} to {max(found):.1f} |")
    return rows


def off_policy(data: dict[str, Any]) -> list[str]:
    """Seven estimators beside Open Bandit Pipeline's."""
    rows = [
        "10,000 rows, 80 actions, 3 places, the same arrays; values agree to 1e-12. CPU of one thread, in "
        "turn, the cheapest evaluation in two seconds a round. Theirs are values alone; ours have standard "
        "errors, intervals and effective sample sizes. Theirs runs without PyTorch, which its estimators "
        "do not use. Without Numba ours costs "
        f"1/{1 / median(data['arrays_ratios']):.0f} of theirs.",
        "",
        "| seven estimators | milliseconds | least to most |",
        "|---|---|---|",
    ]
    labels = {
        "ours_ms": "Rialto",
        "with_overlap_ms": "Rialto, and the overlap",
        "arrays_ms": "Rialto without Numba",
        "obp_ms": f"Open Bandit Pipeline {data['obp']}",
    }
    for name, label in labels.items():
        found = data[name]
        rows.append(f"| {label} | {median(found):.1f} | {min(found):.1f} to {max(found):.1f} |")
    return rows


def simulation(data: dict[str, Any]) -> list[str]:
    """Simulated decisions beside the simulators of bandit libraries."""
    labels = {
        "compiled": "Rialto, compiled",
        "arrays": "Rialto without Numba (128 replications)",
        "draws": "NumPy merely drawing the ten Beta variates of each decision",
        "pymab": f"pymab {PYMAB}, its Rust simulator",
        "obp drawn before": f"OBP {OBP}, all rewards drawn before, as in its examples",
        "obp": f"OBP {OBP}, each round drawn in its turn",
        "mabwiser": f"MABWiser {MABWISER}, replaying a log one by one",
    }
    rows = [
        "Ten Bernoulli arms, rates 5 % to 12 %, 10,000 decisions, Thompson sampling that learns from each "
        "at once; Rialto 1,000 replications a round, a library as many as take it about a second. CPU of one "
        "thread, everybody in a process of its own, in turn. Regret: successes given away, on average; "
        f"{TEXTBOOK[0]} ± {TEXTBOOK[1]:.2f} by hand, apart from Rialto.",
        "",
        "| simulator | decisions a second | least to most | Rialto over it | resident MB | regret |",
        "|---|---|---|---|---|---|",
    ]
    for name, label in labels.items():
        row = data["runs"].get(name)
        if row is None:
            rows.append(f"| {label} | – | – | – | – | not measured: {one_line(data['missing'][name])} |")
            continue
        rates, regret = row["per_s"], row.get("regret")
        told = f"{regret[0]:.2f} ± {regret[1]:.2f} ({row['replications']:,})" if regret else "–"
        rows.append(
            f"| {label} | {median(rates):,.0f} | {min(rates):,.0f} to {max(rates):,.0f} "
            f"| {median(over(data, name)):,.1f} | {max(row['rss_mb']):.0f} | {told} |"
        )
    compiled = data["runs"]["compiled"]["compile_s"]
    return [
        *rows,
        "",
        f"Numba's import and compiling are in no rate: {max(compiled):.1f} s of CPU in the first process, "
        f"{min(compiled):.1f} s once an earlier one has kept the result.",
    ]


def whole_year(data: dict[str, Any]) -> list[str]:
    """A simulated year at three numbers of customers."""
    rows = [
        "One replication of the scenario `whole_year` (365 days, three segments, five variants of which one "
        "comes in summer, weekly steps of the allocator under a delay model with discounting, guardrails and "
        "ramps, 53 looks at the verdict), in a process of its own. A step and a look cost by the cells they "
        "read, so with few customers nearly all of the cost is theirs.",
        "",
        "| customers | CPU s | least to most | µs per customer | resident MB |",
        "|---|---|---|---|---|",
    ]
    for row in data["runs"].values():
        low, seconds, high = min(row["cpu_s"]), median(row["cpu_s"]), max(row["cpu_s"])
        rows.append(
            f"| {median(row['customers']):,.0f} | {seconds:.1f} | {low:.1f} to {high:.1f} "
            f"| {median(row['us']):,.0f} | {max(row['rss_mb']):.0f} |"
        )
    fewer, most = list(data["runs"].values())[-2:]
    more = median(most["customers"]) - median(fewer["customers"])
    beyond = 1e6 * (median(most["cpu_s"]) - median(fewer["cpu_s"])) / more
    return [*rows, "", f"Beyond the first hundred thousand a customer costs {beyond:.0f} µs."]


def peers(data: dict[str, Any]) -> list[str]:
    """Peers beside ours, and what they do not do."""
    rows = [
        "Each is asked in turn with ours (assign, a new unit, committed before answered), one process, 64 "
        "connections.",
        "",
        "| what | per second | ours beside it | ours over theirs | CPU, theirs over ours | p99 ms | does "
        "not do |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, (label, lacks) in LACKS.items():
        row = data["peers"].get(name)
        if row is None:
            rows.append(f"| {label} | – | – | – | – | – | not measured: {one_line(data['missing'][name])} |")
            continue
        rows.append(
            f"| {label} | {median(row['rates']):,.0f} | {row['ours_rate']:,.0f} "
            f"| {median(row['ours_over_theirs']):.2f} | {median(row['cpu_theirs_over_ours']):.2f} "
            f"| {row['latency_ms']['p99']:.0f} | {lacks} |"
        )
    return rows


def one_line(text: str) -> str:
    """Text that fits a cell of a table."""
    return " ".join(text.replace("|", "/").split())[:200]
