# Completion of tailscale's command line for PowerShell.
Register-ArgumentCompleter -Native -CommandName tailscale -ScriptBlock {
    param($word, $tree, $cursor)
    $words = @($tree.CommandElements | Select-Object -Skip 1 | ForEach-Object { "$_" })
    # A space begins a new, empty word.
    if ($word -eq '') { $words += '""' }
    $lines = & $tree.CommandElements[0].Value completion __complete --flags=@FLAGS@ --descs=@DESCS@ '--' $words 2>$null
    $lines | Where-Object { $_ -notmatch '^:\d+$' } | ForEach-Object {
        $name, $about = $_ -split "`t", 2
        if (-not $about) { $about = $name }
        [System.Management.Automation.CompletionResult]::new($name, $name, 'ParameterValue', $about)
    }
}
