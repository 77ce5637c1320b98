"""What a hub worker can be told, each setting with its unit and the reason for its default."""

from typing import Annotated, Literal, get_args

from msgspec import Meta, Struct

from halfdrop.contracts.jobs import JobClass

PREFIX = "HALFDROP_HUB_"

Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$")]


_CLASS = "(realtime|standard|bulk)"
_MODEL = "(house|house-render)"


class HubSettings(Struct, frozen=True, kw_only=True):
    """Settings of one hub process, read once from the environment: HALFDROP_HUB_NATS_URL and so on."""

    name: Name = "hub-1"
    """This worker's name in statuses and logs; two workers with one name do no harm but are hard to tell apart."""

    region: Annotated[str, Meta(pattern="^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$")] = "local"
    """Name of this hub's region, as its edges know it: part of its JetStream domain."""

    nats_url: str = "nats://127.0.0.1:4222"
    """The hub's NATS server."""

    objects_url: str
    """Where plates are found and files are put; no default, because a wrong guess would look like lost files."""

    metrics_port: Annotated[int, Meta(ge=0, le=65535)] = 0
    """TCP port where Prometheus finds /metrics; 0: none. Workers on one machine each need their own."""

    metrics_host: str = "127.0.0.1"
    """Address of that port. It asks for no key, and tells how much is done, not what."""

    health_port: Annotated[int, Meta(ge=0, le=65535)] = 0
    """TCP port of GET /healthz, which answers while the event loop turns, and of /readyz; 0: none."""

    health_host: str = "127.0.0.1"
    """Address of that port; a kubelet asks from outside the pod, so in a pod it is 0.0.0.0."""

    warm_models: Annotated[str, Meta(pattern=f"^({_MODEL}(,{_MODEL})?)?$")] = ""
    """Models that must have drawn once before /readyz says ready: "house,house-render", what is asked for most first.
    Jobs are taken before that. Empty: ready as soon as jobs are."""

    bundle_dir: str = ""
    """The model bundle, for jobs that come without plates; empty means the one that is shipped."""

    models_dir: str = ""
    """The store of users' models (`halfdrop models import`), of which this worker tells and with which it draws what is
    ordered of them; looked at anew every 5 seconds. Empty: none. `halfdrop up` names its own."""

    refine: bool = True
    """Draw each unit exactly, on a grid twice as fine, before files are made of it: about 50 ms of one core a job, for
    edges that are straight at 4096 px. Off means files of exactly what was previewed."""

    refiner_dir: str = ""
    """The refiner's bundle; empty means the one that is shipped. It refines plates of the model in bundle_dir only."""

    profiles_dir: str = ""
    """Folder of ICC profiles for CMYK, NAME.icc or NAME.icm, that orders may name; empty: there are none. Read anew for
    each order that names one, so a mill's new profile needs no restart."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where sampling and refining run; auto takes CUDA when torch finds one."""

    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """What the denoiser computes in; auto is float32 on a CPU and bfloat16 on a GPU. On CPUs with AVX512-BF16 or AMX,
    bfloat16 takes two thirds of the time and moves a plate by 0.0006 of its range, which no picture shows; but plates
    are then other bits than a float32 worker's, so all workers of a pool should agree."""

    models_mib: Annotated[int, Meta(ge=64, le=1_048_576)] = 6144
    """MiB of memory that models may take; the one worth least goes for one that is wanted. A checkpoint of SD 1.5 takes
    4.0 GiB in float32 on a CPU, SDXL 13; on a GPU half of that: give it two thirds of the device's memory."""

    threads: Annotated[int, Meta(ge=1, le=64)] = 2
    """Threads that compose and encode; two keep an 8192 px job's memory under 1 GB and halve its time. As many denoise
    on a CPU, each with samples of its own."""

    slots: Annotated[int, Meta(ge=1, le=256)] = 1
    """Jobs worked on at once; those that are denoised share rounds. One job's finishing uses all threads; more slots
    than one are for many small jobs, whose time is waiting for the store and the server, and for GPUs."""

    classes: Annotated[str, Meta(pattern=f"^{_CLASS}(,{_CLASS})*$")] = "realtime,standard,bulk"
    """Classes of jobs that this worker takes; fewer keep it free for those, such as one worker for "realtime" alone."""

    warm: bool = True
    """Load torch and the model in the background after the start, so that the first job without plates need not."""

    grace_s: Annotated[float, Meta(ge=0, le=600)] = 20.0
    """After SIGTERM a running job may take this long, if it can be done by then; else it is handed back at once, with
    what it has come to. Under Kubernetes' default of 30."""

    interruption_file: str = ""
    """A path that a node's termination handler makes when the machine will go; the worker then stops as on SIGTERM.
    Empty: only signals stop it."""

    save_every_s: Annotated[float, Meta(ge=0, le=3600)] = 5.0
    """Seconds of a job between two savings of what it has come to, for workers that are killed; 0: only when a job is
    handed back. One object of about 66 KiB each time; jobs that take less save nothing."""

    ack_wait_s: Annotated[float, Meta(ge=1, le=600)] = 30.0
    """Seconds without a sign of life after which the server gives a job to another worker; we sign every third."""

    job_max_s: Annotated[float, Meta(gt=0, le=86_400)] = 600.0
    """A delivery that works longer than this is called off and tried again; the largest job takes seconds."""

    max_deliver: Annotated[int, Meta(ge=1, le=100)] = 5
    """What a job may spend before it is given up on: a failed delivery or one that took its worker with it costs 1, an
    error that nobody foresaw 2, an outage of the object store 0.25, a hand-back nothing. Too little to burn a pool."""

    @property
    def wanted_models(self) -> tuple[str, ...]:
        """The models that `warm_models` names, in its order."""
        return tuple(dict.fromkeys(name for name in self.warm_models.split(",") if name))

    @property
    def taken_classes(self) -> tuple[JobClass, ...]:
        """The classes that `classes` names."""
        named = self.classes.split(",")
        return tuple(name for name in get_args(JobClass) if name in named)
