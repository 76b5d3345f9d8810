"""Signals before :func:`fsd.system.errors.exit_on_input_error` handles them: they end the program at once with one line.

Importing this module sets the handlers. Each script imports it first, because its other imports take time.
"""

import signal

from fsd.system.signals import SIGNALS, end_at_once

for number in SIGNALS:
    signal.signal(number, end_at_once)
