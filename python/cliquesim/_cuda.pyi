def device_status() -> tuple[int, str]:
    """CUDA devices that this process can use, and the reason when there is none."""
