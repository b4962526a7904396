"""Linear probe: trains only the head."""

from __future__ import annotations

from red_cli.methods.base_parameters import method_of_base_parameters
from red_cli.methods.method import Rates

METHOD = method_of_base_parameters("head", lambda model: [], Rates(1e-3, 1e-1, usual=1e-2))
