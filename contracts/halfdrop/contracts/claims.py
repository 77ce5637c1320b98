"""Claims: which region runs an order that two regions may have.

An order whose publish to a region timed out may be there. To be moved, it must be certain that only one of the two runs
it; so a region's worker claims the order before it works on it, by creating an object in the store that all regions
share, and whoever finds another region's claim leaves the order alone (docs/adr/0029).
"""

CLAIM_HEADER = "Halfdrop-Claim"
"""A job in JOBS with this header may be in another region, too, and must be claimed."""


def claim_path(tenant: str, job_id: str) -> str:
    """Return the object that names the region which runs the job."""
    return f"claims/{tenant}/{job_id}"
