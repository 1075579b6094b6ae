//! Runs of two sides in turn, and their medians.

/// The figures of several runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Series {
    values: Vec<f64>,
    references: Vec<f64>,
}

impl Series {
    /// Runs both sides in turn, so that whatever else the machine does hits both alike.
    pub(crate) fn alternate(
        n: usize,
        mut value: impl FnMut() -> anyhow::Result<f64>,
        mut reference: impl FnMut() -> anyhow::Result<f64>,
    ) -> anyhow::Result<Series> {
        let mut series = Series::default();
        for _ in 0..n {
            series.references.push(reference()?);
            series.values.push(value()?);
        }
        Ok(series)
    }

    /// Runs that were made in turn elsewhere.
    pub(crate) fn of(values: Vec<f64>, references: Vec<f64>) -> Series {
        Series { values, references }
    }

    /// Figures that are held against a fixed one.
    pub(crate) fn alone(values: &[f64]) -> Series {
        Series { values: values.to_vec(), references: Vec::new() }
    }

    pub(crate) fn value(&self) -> f64 {
        median(&self.values)
    }

    pub(crate) fn reference(&self) -> f64 {
        median(&self.references)
    }

    pub(crate) fn n(&self) -> usize {
        self.values.len()
    }

    /// The distance of the farthest two runs, as a share of the median.
    pub(crate) fn spread(&self) -> f64 {
        let most = self.values.iter().copied().fold(f64::MIN, f64::max);
        let least = self.values.iter().copied().fold(f64::MAX, f64::min);
        let median = self.value();
        if median == 0.0 { 0.0 } else { (most - least) / median }
    }
}

pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn both_sides_run_in_turn() {
        let order = std::cell::RefCell::new(String::new());
        let side = |name: char, figure: f64| {
            order.borrow_mut().push(name);
            Ok(figure)
        };
        let series = Series::alternate(3, || side('v', 2.0), || side('r', 4.0)).expect("no side fails");
        assert_eq!((order.borrow().as_str(), series.value(), series.reference()), ("rvrvrv", 2.0, 4.0));
    }
}
