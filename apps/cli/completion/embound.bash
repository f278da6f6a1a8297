# embound.bash - completion of the embound command for bash.
# SPDX-License-Identifier: Apache-2.0
_embound() {
    local word=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
    local command=${COMP_WORDS[1]}
    local commands="plan encode tokenize search eval bench info monitor help --help --version"
    local plan="--memory --gpu-memory --device --dtype --threads --max-length --chunk-tokens
        --long --pooling --normalize --no-normalize --dim"
    local run="--progress --stats --json --quiet --help $plan --prompt --prompt-name"
    local input="--input --input-format --whole-file --field --column --no-header --no-quotes"
    local options
    COMPREPLY=()
    if ((COMP_CWORD == 1)); then
        mapfile -t COMPREPLY < <(compgen -W "$commands" -- "$word")
        return
    fi
    case $previous in
    --dtype) options="f32 bf16 f16 int8 int4 fp8 auto" ;;
    --long) options="chunk truncate error" ;;
    --pooling) options="mean cls max" ;;
    --device) options="auto cpu cuda cuda:0 cuda:all" ;;
    --progress) options="auto always never" ;;
    --input-format) options="txt whole jsonl csv tsv" ;;
    --output-format) options="npy jsonl" ;;
    --score) options="cosine dot" ;;
    --memory | -m | --gpu-memory) options="auto 64MiB 96MiB 256MiB 1GiB" ;;
    --threads | -t | --max-length | --chunk-tokens | --dim | --top | -k | --repeat | --prompt | \
        --prompt-name | --field | --column | --columns | --interval | --count) return ;;
    -i | --input | -o | --output | --stats | --index | --texts | --machine | --save-machine | \
        --against) mapfile -t COMPREPLY < <(compgen -f -- "$word") && return ;;
    esac
    if [[ -z $options && $word == -* ]]; then
        case $command in
        plan) options="--machine --json --quiet --help $plan" ;;
        encode) options="--output --output-format --status $input $run" ;;
        tokenize) options="--output --no-specials --json --quiet --help --prompt --prompt-name
            $input" ;;
        search) options="--index --texts --top --score --input-format --field --column
            --no-header --no-quotes $run" ;;
        eval) options="--input --columns --no-header --no-quotes --against --status $run" ;;
        bench) options="--repeat --status $input $run" ;;
        info) options="--save-machine --device --json --quiet --help" ;;
        monitor) options="--interval --count --json --quiet --help" ;;
        help) options="plan encode tokenize search eval bench info monitor" ;;
        esac
    fi
    if [[ -n $options ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$options" -- "$word")
    else
        mapfile -t COMPREPLY < <(compgen -f -- "$word")
    fi
}
complete -o filenames -F _embound embound
