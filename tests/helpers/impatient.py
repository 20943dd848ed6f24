"""Workers that are given up after seconds, so that a test need not wait for half a minute each time.

    python -m tests.helpers.impatient embedded
    celery -A tests.helpers.impatient worker …

What is impatient is how long silence may last; all else is the real thing. With IMPASTO_PATIENT=1 that is, too.
"""

import os
import sys

from impasto.core.jobs import transitions

if not os.environ.get("IMPASTO_PATIENT"):
    transitions.HEARTBEAT, transitions.SILENCE, transitions.LEASE = 1.0, 3.0, 5.0

from impasto.worker import embedded
from impasto.worker.tasks import app

# Shorter than a task: the broker hands out a job again that somebody is at work on.
app.conf.broker_transport_options = app.conf.broker_transport_options | {"visibility_timeout": 2}

if __name__ == "__main__" and sys.argv[1:] == ["embedded"]:
    embedded.main()
