# bash completion for pgque(1)

_pgque() {
  local word=${COMP_WORDS[COMP_CWORD]} previous path='' line=$COMP_LINE glued='' before='' i
  local settings='--max-count --max-lag --idle-period --rotation-period --max-retries --pause --resume --external-ticker --own-ticker'
  local words='' arguments=()
  COMPREPLY=()
  # Bash splits the line at : = and @ as well; what no white space separates is one argument.
  for ((i = 0; i <= COMP_CWORD; i++)); do
    if [[ $glued ]]; then arguments[-1]+=${COMP_WORDS[i]}; else arguments+=("${COMP_WORDS[i]}"); fi
    line=${line#"${COMP_WORDS[i]}"}
    if [[ $line == [[:space:]]* ]]; then glued=''; else glued=1; fi
    line=${line#"${line%%[![:space:]]*}"}
  done
  # --option=word is completed as --option word.
  previous=${arguments[-2]}
  if [[ ${arguments[-1]} == --*=* ]]; then previous=${arguments[-1]%%=*} word=${word#=}; fi
  # The subcommand so far, such as "queue create".
  for ((i = 1; i < ${#arguments[@]} - 1; i++)); do
    case ${arguments[i]} in
      --dsn) ((i++)) ;;
      -*) ;;
      *)
        case "$path" in
          '' | dlq | queue | help | 'help dlq' | 'help queue') path=${path:+$path }${arguments[i]} ;;
        esac
        ;;
    esac
  done
  case $previous in
    -f | --file) mapfile -t COMPREPLY < <(compgen -f -- "$word"); return ;;
    --reset)
      # Several names, separated by commas: the last one is completed.
      words='max-count max-lag idle-period rotation-period max-retries pause external-ticker'
      if [[ $word == *,* ]]; then before=${word%,*},; fi
      ;;
    --dsn | -t | --type | -k | --key | --header | --at | --subconsumer | --limit | --batch-size | --max-* | --*-period | --period | --older-than | \
      --dead-interval | --stuck-after | --all) return ;;
    *)
      case $path in
        '' | help) words='send tail tick queues queue consumers subscribe unsubscribe dlq doctor metrics status help --version' ;;
        send) words='--file --type --key --header --events --text --batch --batch-size --atomic --no-progress' ;;
        tail) words='--once --peek --limit --subscribe --raw --pooled --subconsumer --dead-interval --poll-interval' ;;
        tick) words='--period --retry-period --maintenance-period --rotation-period --standby-period --max-lag --pooled --quiet' ;;
        queue | 'help queue') words='create drop set list' ;;
        'queue create') words=$settings ;;
        'queue set') words="$settings --reset" ;;
        'queue drop') words='--force' ;;
        consumers) words='--gone --older-than --yes' ;;
        subscribe) words='--at --subconsumer --convert' ;;
        unsubscribe) words='--subconsumer --workers --retry-batch' ;;
        dlq | 'help dlq') words='list replay purge' ;;
        'dlq list') words='--limit' ;;
        'dlq replay') words='--all --yes' ;;
        'dlq purge') words='--older-than' ;;
        doctor) words='--stuck-after' ;;
      esac
      words+=' --dsn --json --help'
      ;;
  esac
  mapfile -t COMPREPLY < <(compgen -P "$before" -W "$words" -- "${word#"$before"}")
}
complete -F _pgque pgque
