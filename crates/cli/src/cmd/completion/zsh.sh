#compdef tailscale
# Completion of tailscale's command line for zsh.
_tailscale() {
    local -a lines found
    local line directive tab=$'\t'
    lines=("${(@f)$("${words[1]}" completion __complete --flags=@FLAGS@ --descs=@DESCS@ -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    directive=${lines[-1]#:}
    lines[-1]=()
    for line in "${lines[@]}"; do
        [[ -n $line ]] || continue
        line=${line//:/\\:}
        found+=("${line/$tab/:}")
    done
    if (( ${#found} )); then
        _describe -V 'tailscale' found
    elif [[ $directive == 0 ]]; then
        _files
    fi
}
compdef _tailscale tailscale
