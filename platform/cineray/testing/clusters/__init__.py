"""Whole clusters to break, on one machine: machines in namespaces, a cloud's and Kubernetes' API, Ray heads."""

__all__: list[str] = []
