"""The claim of a job that another region may have, too: created before the work, once, and never changed."""

from halfdrop.contracts.claims import CLAIM_HEADER, claim_path
from halfdrop.contracts.jobs import Job
from halfdrop.hub.delivery import Delivery
from halfdrop.runtime.objects import ObjectStore


async def find_claimant(objects: ObjectStore, delivery: Delivery, job: Job, *, region: str) -> str:
    """Claim the job for `region` unless it is claimed; return the region that has it. Raises Unavailable."""
    if CLAIM_HEADER not in delivery.headers:
        return region  # it was never in doubt where it is
    path = claim_path(job.tenant, job.id)
    if await objects.create(path, region.encode(), media_type="text/plain"):
        return region
    return (await objects.get(path) or region.encode()).decode(errors="replace")
