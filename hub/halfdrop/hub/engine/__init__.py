"""The rendering engine: denoising steps of many jobs taken together, in batches that jobs join and leave at any step.

Start reading at `planning.plan_round` (which jobs take the next step; pure) and `running.Engine` (the thread that takes
it). Never here: a queue, a store, a status, a file of a job; `running` and all pure modules never import torch.
"""
