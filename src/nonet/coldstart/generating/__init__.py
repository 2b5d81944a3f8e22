"""The generator: cold starts and arrivals that follow the published curves of the Huawei 2025 release.

curves      digitised distribution functions and the other small tables of `calibration/`
components  joint samples of the four components of a cold start, whose sums follow the curve of the total
minutes     which joint samples a minute prefers: the rank correlations between minutes
cold_events cold starts alone, by region, at the published times
functions   the functions of a region: trigger, runtime, class, requests, and the process that fires them
stream      requests of all functions in time order, in blocks, as a pure function of the seed
presets     names such as `huawei2025:R2` and `poisson:functions=10,rate=0.1`; `generate`
exports     the InVitro and Azure-2021 formats; `write`
"""
