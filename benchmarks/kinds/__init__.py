"""Measurements that are more than requests one after another; each has `measure(task)`, called in a worker."""
