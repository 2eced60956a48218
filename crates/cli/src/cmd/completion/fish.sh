# Completion of tailscale's command line for fish.
function __tailscale_complete
    set -l words (commandline -opc) (commandline -ct)
    $words[1] completion __complete --flags=@FLAGS@ --descs=@DESCS@ -- $words[2..-1] 2>/dev/null | string match --invert --regex '^:[0-9]+$'
end
complete --command tailscale --no-files --arguments '(__tailscale_complete)'
