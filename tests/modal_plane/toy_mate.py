"""A module beside the toy app, which travels into its containers."""


def double(seed: int) -> int:
    return 2 * seed
