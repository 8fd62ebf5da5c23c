"""Register: the candidate into the registry, through the gate."""

from __future__ import annotations

from catena.layout import Layout
from catena.registry.registration import register_candidate
from catena.registry.store import shown_uri
from catena.settings import Settings
from tasks.stage import run_stage


def register(settings: Settings, layout: Layout) -> dict[str, object]:
    """Register `models/candidate`, let the gate decide, and write `reports/registry.json`."""
    done = register_candidate(settings, layout)
    report = done.report
    champion = report["aliases"]["champion"]
    again = ", registered before" if done.reused else ""
    return {
        "model": f"models:/{report['model']}/{report['version']}{again}",
        "decision": "promoted to champion"
        if done.promoted
        else f"kept out; champion is {champion or 'nobody'}",
        "compared with": f"version {report['compared_with']}" if report["compared_with"] else "nothing",
        **{f"reason {number}": reason for number, reason in enumerate(report["reasons"], start=1)},
        "registry": shown_uri(done.uri).removeprefix(f"sqlite:///{layout.root}/"),
    }


if __name__ == "__main__":
    run_stage("register", register)
