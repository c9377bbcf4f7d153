"""Traffic that was: read out of access logs, judged by a policy, measured for a proposal."""
