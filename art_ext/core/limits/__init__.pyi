from art_ext.core.limits.bounds import Bound as Bound
from art_ext.core.limits.bounds import gaussian_expansion as gaussian_expansion
from art_ext.core.limits.bounds import in_distribution_risk_bound as in_distribution_risk_bound
from art_ext.core.limits.bounds import intrinsic_robustness_bound as intrinsic_robustness_bound
from art_ext.core.limits.expansion import Expansion as Expansion
from art_ext.core.limits.expansion import GaussianSet as GaussianSet
from art_ext.core.limits.expansion import empirical_expansion as empirical_expansion
from art_ext.core.limits.generator import Generator as Generator
from art_ext.core.limits.generator import GeneratorOracle as GeneratorOracle
from art_ext.core.limits.generator import check_generator as check_generator
from art_ext.core.limits.generator import draw_latents as draw_latents
from art_ext.core.limits.lipschitz import GeneratorLipschitz as GeneratorLipschitz
from art_ext.core.limits.lipschitz import generator_lipschitz as generator_lipschitz
from art_ext.core.limits.representation import not_represented as not_represented
from art_ext.core.limits.risk import Alpha as Alpha
from art_ext.core.limits.risk import GeneratorRisk as GeneratorRisk
from art_ext.core.limits.risk import RiskBound as RiskBound
from art_ext.core.limits.risk import bounds_at_risk as bounds_at_risk
from art_ext.core.limits.risk import risk_on as risk_on

__all__: list[str]
