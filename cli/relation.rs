//! Relations of tensors as they are written on the command line.

use milepost_engine::Relation;

const FORM: &str = "write TENSOR=adam:EXP_AVG,EXP_AVG_SQ, TENSOR=second-moment:EXP_AVG, \
                    TENSOR=momentum:BUFFER, TENSOR=sum-of-squares:WEIGHT, TENSOR=average:OF or \
                    TENSOR=copy:OF";

/// Reads `TENSOR=KIND:OTHER[,OTHER]`; names may hold any of the signs but the first `=`.
pub(crate) fn parse(text: &str) -> Result<(String, Relation), String> {
    let bad = || FORM.to_owned();
    let (tensor, rest) = text.split_once('=').ok_or_else(bad)?;
    let (kind, others) = rest.split_once(':').ok_or_else(bad)?;
    if tensor.is_empty() || others.is_empty() {
        return Err(bad());
    }
    let other = others.to_owned();
    let relation = match kind {
        "adam" => {
            let (exp_avg, exp_avg_sq) = others.split_once(',').ok_or_else(bad)?;
            Relation::Adam {
                exp_avg: exp_avg.to_owned(),
                exp_avg_sq: exp_avg_sq.to_owned(),
            }
        }
        "second-moment" => Relation::SecondMoment { exp_avg: other },
        "momentum" => Relation::Momentum { buffer: other },
        "sum-of-squares" => Relation::SumOfSquares { weight: other },
        "average" => Relation::Average { of: other },
        "copy" => Relation::Copy { of: other },
        _ => return Err(bad()),
    };
    Ok((tensor.to_owned(), relation))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_read_and_others_are_told_the_form() {
        let copy = Relation::Copy { of: "b".into() };
        assert_eq!(parse("a=copy:b").unwrap(), ("a".into(), copy));
        let adam = parse("a=adam:m,v").unwrap().1;
        assert!(matches!(adam, Relation::Adam { exp_avg_sq, .. } if exp_avg_sq == "v"));
        let sum = parse("s=sum-of-squares:w").unwrap().1;
        assert!(matches!(sum, Relation::SumOfSquares { weight } if weight == "w"));
        for bad in [
            "", "a", "a=copy", "a=copy:", "=copy:b", "a=adam:m", "a=cast:b",
        ] {
            assert_eq!(parse(bad).unwrap_err(), FORM, "{bad}");
        }
    }
}
