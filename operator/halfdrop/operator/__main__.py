"""`python -m halfdrop.operator`: the operator; settings from HALFDROP_OPERATOR_* (see settings.py)."""

if __name__ == "__main__":
    from halfdrop.operator.process import main

    main()
