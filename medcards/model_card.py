"""The model card of an adapter."""


def adapter_card(manifest: dict) -> str:
    return "# adapter\n"
