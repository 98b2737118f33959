"""One resource brought in line: observe upstream, publish the Secret, report the status; and the queue that says when.

May use everything below; knows neither kopf nor how changes arrive. Begin with `reconciler`.
"""
