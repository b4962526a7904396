"""Full fine-tuning: trains every parameter of the base."""

from __future__ import annotations

from red_cli.methods.base_parameters import method_of_base_parameters, names_of_parameters
from red_cli.methods.method import Rates

METHOD = method_of_base_parameters("full", names_of_parameters, Rates(1e-5, 1e-3, usual=1e-4, below_edge=8.0))
