"""What training has to know of models that `peft.get_peft_model` wrapped."""

from typing import Any

MEMORY = "prototype_memory"


def unwrapped(model: Any) -> Any:
    """The TeViA model inside a `peft.PeftModel`, or the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def save_prototypes_with_adapter(model: Any) -> None:
    """Makes a `peft.PeftModel` save the prototypes with its adapter, as if its `modules_to_save` had named them.

    Without it `save_pretrained` would write the adapter alone. Other models are left as they are.
    """
    base = unwrapped(model)
    if base is model or base.prototype_memory is None:
        return
    from peft.utils import ModulesToSaveWrapper

    wrappers = [module for module in base.modules() if isinstance(module, ModulesToSaveWrapper)]
    if any(part is base.prototype_memory for wrapper in wrappers for part in wrapper.modules()):
        return
    adapter = model.active_adapters[0]
    base.model.prototype_memory = wrapper = ModulesToSaveWrapper(base.prototype_memory, adapter)
    wrapper.set_adapter(adapter)
    config = model.peft_config[adapter]
    config.modules_to_save = [*(config.modules_to_save or ()), MEMORY]
