"""BitFit (Ben Zaken et al. 2022, arXiv 2106.10199): trains every bias of the base."""

from __future__ import annotations

from transformers import PreTrainedModel

from red_cli.errors import UserError
from red_cli.methods.base_parameters import method_of_base_parameters, names_of_parameters
from red_cli.methods.method import Rates


def _biases(model: PreTrainedModel) -> list[str]:
    """The names of all biases of the base, which BitFit trains."""
    names = [name for name in names_of_parameters(model) if name.endswith("bias")]
    if not names:
        raise UserError("unsupported-model", f"method bitfit: a {model.config.model_type} model has no biases")
    return names


METHOD = method_of_base_parameters("bitfit", _biases, Rates(3e-4, 3e-2, usual=3e-3))
