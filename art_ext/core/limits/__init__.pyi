from art_ext.core.limits.bounds import Bound as Bound
from art_ext.core.limits.bounds import in_distribution_risk_bound as in_distribution_risk_bound
from art_ext.core.limits.bounds import intrinsic_robustness_bound as intrinsic_robustness_bound
from art_ext.core.limits.generator import Generator as Generator
from art_ext.core.limits.generator import GeneratorOracle as GeneratorOracle
from art_ext.core.limits.generator import check_generator as check_generator
from art_ext.core.limits.generator import draw_latents as draw_latents
from art_ext.core.limits.lipschitz import GeneratorLipschitz as GeneratorLipschitz
from art_ext.core.limits.lipschitz import generator_lipschitz as generator_lipschitz

__all__: list[str]
