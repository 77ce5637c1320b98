"""What handlers are given by name."""

from litestar.di import NamedDependency
from litestar.params import SkipValidation

from halfdrop.forecaster.service.planner import Planner
from halfdrop.forecaster.service.policies import Policies
from halfdrop.forecaster.service.replays import Replays

ThePlanner = NamedDependency[SkipValidation[Planner]]
ThePolicies = NamedDependency[SkipValidation[Policies]]
TheReplays = NamedDependency[SkipValidation[Replays]]
