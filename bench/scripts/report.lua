-- Ends every script of this bench: wrk's own figures as one line of JSON, exact where its text is rounded.
done = function(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    'figures {"requests": %d, "bytes": %.0f, "duration_us": %.0f, "p50_us": %.0f, "p99_us": %.0f, '
      .. '"connect": %d, "read": %d, "write": %d, "timeout": %d, "status": %d}\n',
    summary.requests, summary.bytes, summary.duration, latency:percentile(50), latency:percentile(99),
    errors.connect, errors.read, errors.write, errors.timeout, errors.status))
end
