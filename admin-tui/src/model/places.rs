//! Where regions are on the world: the sites of cloud providers, by the names that they have there.

/// Longitude and latitude of a region, by its name, or by the area that its operator named.
#[must_use]
pub fn place(name: &str, area: Option<&str>) -> Option<(f64, f64)> {
    let by_name = || SITES.iter().find(|(site, ..)| base(name) == *site);
    let by_area = || {
        let area = area?.to_lowercase();
        SITES.iter().find(|(_, town, ..)| area.contains(town))
    };
    by_name().or_else(by_area).map(|(.., longitude, latitude)| (*longitude, *latitude))
}

/// `eu-central-1` without its number: clusters of one site have numbers of their own.
fn base(name: &str) -> &str {
    let trimmed = name.trim_end_matches(|last: char| last.is_ascii_digit() || last == '-');
    if SITES.iter().any(|(site, ..)| *site == name) { name } else { trimmed }
}

/// Name, town, longitude, latitude. The first that fits is taken: names with numbers are told apart where sites are far apart.
const SITES: &[(&str, &str, f64, f64)] = &[
    ("us-east-2", "ohio", -83.0, 40.0),
    ("us-east", "virginia", -77.5, 38.9),
    ("us-west-1", "california", -121.9, 37.4),
    ("us-west", "oregon", -119.7, 45.8),
    ("us-central", "iowa", -95.9, 41.3),
    ("ca-central", "montreal", -73.6, 45.5),
    ("ca-west", "calgary", -114.1, 51.0),
    ("mx-central", "queretaro", -100.4, 20.6),
    ("sa-east", "paulo", -46.6, -23.5),
    ("eu-central-2", "zurich", 8.5, 47.4),
    ("eu-central", "frankfurt", 8.7, 50.1),
    ("eu-west-2", "london", -0.1, 51.5),
    ("eu-west-3", "paris", 2.4, 48.9),
    ("eu-west", "ireland", -6.3, 53.3),
    ("eu-north", "stockholm", 18.1, 59.3),
    ("eu-south-2", "spain", -0.9, 41.6),
    ("eu-south", "milan", 9.2, 45.5),
    ("europe-west", "belgium", 3.8, 50.4),
    ("europe-north", "finland", 27.2, 60.6),
    ("af-south", "cape town", 18.4, -33.9),
    ("me-south", "bahrain", 50.6, 26.1),
    ("me-central", "emirates", 54.4, 24.5),
    ("il-central", "tel aviv", 34.8, 32.1),
    ("ap-south-2", "hyderabad", 78.5, 17.4),
    ("ap-south", "mumbai", 72.9, 19.1),
    ("ap-southeast-2", "sydney", 151.2, -33.9),
    ("ap-southeast-3", "jakarta", 106.8, -6.2),
    ("ap-southeast-4", "melbourne", 145.0, -37.8),
    ("ap-southeast", "singapore", 103.8, 1.3),
    ("ap-northeast-2", "seoul", 127.0, 37.6),
    ("ap-northeast-3", "osaka", 135.5, 34.7),
    ("ap-northeast", "tokyo", 139.7, 35.7),
    ("ap-east", "hong kong", 114.2, 22.3),
    ("asia-east", "taiwan", 120.5, 24.1),
    ("cn-north", "beijing", 116.4, 39.9),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_is_found_by_its_name_or_else_its_area() {
        let frankfurt = Some((8.7, 50.1));
        assert_eq!(place("eu-central-1", None), frankfurt);
        assert_eq!(place("eu-central-7", None), frankfurt);
        assert_eq!(place("eu-central-2", None), Some((8.5, 47.4)));
        assert_eq!(place("blue", Some("Frankfurt am Main")), frankfurt);
        for name in ["local-1", "", "-", "1"] {
            assert_eq!(place(name, None), None);
        }
    }
}
