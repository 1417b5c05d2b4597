"""Updates under a scheduler of torch's kind."""


def rates(optimizer):
    """The rate of each of its groups."""
    return [float(group["lr"]) for group in optimizer.param_groups]


def advance(optimizer, scheduler, updates):
    """Makes updates, each with a step of the scheduler after it."""
    for _ in range(updates):
        optimizer.step()
        scheduler.step()
