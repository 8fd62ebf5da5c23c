"""Prefect's settings for a flow that runs without a server of its own. Import before `prefect`.

Each is only a default: an environment variable of the same name wins. None of them matters once
`PREFECT_API_URL` names a server, apart from those that keep Prefect from phoning home.
"""

from __future__ import annotations

import os

DEFAULTS = {
    # Prefect's temporary server gives up after 20 s, which a busy machine's first start can take.
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED": "false",  # a temporary server has no deployments
    "PREFECT_SERVER_SERVICES_LATE_RUNS_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_FOREMAN_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_TRIGGERS_ENABLED": "false",
    "PREFECT_CLI_PROMPT": "false",
    "PREFECT_TELEMETRY_ENABLE_RESOURCE_METRICS": "false",
    "DO_NOT_TRACK": "1",  # Prefect's SDK, and others that honour it
}

for _name, _value in DEFAULTS.items():
    os.environ.setdefault(_name, _value)
