"""The edge's HTTP application: the front, then Litestar with every route of the API and the Studio page."""

from pathlib import Path

from litestar import Litestar
from litestar.di import Provide
from litestar.exceptions import HTTPException

from halfdrop.contracts.errors import HalfdropError
from halfdrop.edge.admission import Admission
from halfdrop.edge.batch_results import get_batch_errors, get_batch_results
from halfdrop.edge.batch_routes import (
    cancel_batch,
    create_batch,
    get_batch,
    list_batch_methods,
    list_batches,
    pause_batch,
    resume_batch,
    stream_batch,
)
from halfdrop.edge.front import Front
from halfdrop.edge.health import get_health
from halfdrop.edge.image_routes import create_images
from halfdrop.edge.metrics import get_metrics
from halfdrop.edge.model_routes import (
    create_model_prediction,
    get_listed_model,
    get_model,
    get_model_version,
    list_model_versions,
    list_models,
)
from halfdrop.edge.openapi import get_openapi
from halfdrop.edge.pool_routes import list_pools
from halfdrop.edge.prediction_routes import (
    cancel_prediction,
    create_prediction,
    get_file,
    get_prediction,
    list_prediction_methods,
    list_predictions,
)
from halfdrop.edge.prediction_streams import stream_prediction
from halfdrop.edge.preview_routes import create_preview, get_picture
from halfdrop.edge.problems import answer_problem
from halfdrop.edge.progress_routes import get_progress_picture
from halfdrop.edge.services import Services
from halfdrop.edge.template_routes import get_template, list_templates
from halfdrop.edge.webhook_routes import WEBHOOK_HANDLERS
from halfdrop.runtime.pages import page_handlers

STUDIO_DIR = Path(__file__).parent / "studio"

API_HANDLERS = [
    create_preview,
    get_picture,
    list_prediction_methods,
    create_prediction,
    list_predictions,
    get_prediction,
    cancel_prediction,
    stream_prediction,
    get_file,
    list_batch_methods,
    create_batch,
    list_batches,
    get_batch,
    pause_batch,
    resume_batch,
    cancel_batch,
    stream_batch,
    get_batch_results,
    get_batch_errors,
    get_progress_picture,
    list_pools,
    create_images,
    list_models,
    get_listed_model,
    create_model_prediction,
    get_model,
    list_model_versions,
    get_model_version,
    list_templates,
    get_template,
    *WEBHOOK_HANDLERS,
    get_health,
    get_metrics,
    get_openapi,
]


def make_app(services: Services, *, body_s: float, answer_s: float, batch_s: float = 0) -> Front:
    """Return the ASGI application that serves `services`; the time limits are Admission's."""
    inner = Litestar(
        route_handlers=[*API_HANDLERS, *page_handlers(STUDIO_DIR, under="studio")],
        dependencies={"edge": Provide(lambda: services, sync_to_thread=False)},
        exception_handlers={
            HalfdropError: answer_problem,
            HTTPException: answer_problem,
            Exception: answer_problem,
        },
        request_max_body_size=None,  # read_body bounds it, and reads on far enough to be heard
        openapi_config=None,  # openapi.py says more than can be derived
        logging_config=None,
    )
    admission = Admission(services.degradation.marking(inner), body_s=body_s, answer_s=answer_s, batch_s=batch_s)
    return Front(
        services.shelf,
        admission,
        services.door,
        services.limits,
        observer=services.observer,
        note=services.hot.note,
    )
