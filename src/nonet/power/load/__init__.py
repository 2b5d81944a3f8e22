"""What a row is asked to do, and what its measured power tells: requests, synthetic weeks, logs, fits.

- `requests`: arrivals as arrays, with priorities; `readers`: published and own request logs;
- `services`: the service mix; `week`: synthetic weeks of it;
- `rises`: peak and rises of a row-power series, thresholds from them; `power_log`: reads measured series
  (`power_columns`, `times`, `log_flaws`: what its columns, times and readings are);
- `base_row`: a row and its traffic as one small record; `fit`: finds one with given statistics; `replay`: follows a
  given series.
"""
