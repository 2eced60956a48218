# Completion of tailscale's command line for bash.
_tailscale() {
    local words=() word i lines directive
    # Bash splits at "=" too; what belongs together is put together.
    for ((i = 1; i <= COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        if [[ $word == = || (${#words[@]} -gt 0 && ${words[-1]-} == --*= && ${COMP_WORDS[i - 1]} == =) ]]; then
            words[-1]+=$word
        else
            words+=("$word")
        fi
    done
    mapfile -t lines < <("${COMP_WORDS[0]}" completion __complete --flags=@FLAGS@ --descs=false -- "${words[@]}" 2>/dev/null)
    COMPREPLY=()
    [[ ${#lines[@]} -gt 0 ]] || return 0
    directive=${lines[-1]#:}
    unset 'lines[-1]'
    # The part behind "=" is all that bash replaces.
    for word in "${lines[@]}"; do
        [[ ${words[-1]} == --*=* ]] && word=${word#--*=}
        COMPREPLY+=("$word")
    done
    if [[ ${#COMPREPLY[@]} -eq 0 && $directive -eq 0 ]]; then
        compopt -o default 2>/dev/null
    fi
}
complete -F _tailscale tailscale
