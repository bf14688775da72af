"""ISO 4217: which currency codes exist and how many decimals their minor unit has.

Metals, funds' baskets, test codes and "no currency" are left out: nobody pays with them. ANG and BGN
(withdrawn in 2025 and 2026) stay, since refunds of orders paid in them still arrive.
"""

_BY_EXPONENT = {
    0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
    2: """
        AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BOV BRL BSD BTN BWP BYN BZD
        CAD CDF CHE CHF CHW CNY COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS
        GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL
        MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK
        PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS
        TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST XCD XCG YER ZAR ZMW ZWG
    """,
    3: "BHD IQD JOD KWD LYD OMR TND",
    4: "CLF UYW",
}

_EXPONENTS = {code: places for places, codes in _BY_EXPONENT.items() for code in codes.split()}


def is_currency(code: str) -> bool:
    """Whether the code is a currency of ISO 4217 (upper case, as the standard writes it)."""
    return code in _EXPONENTS


def exponent(code: str) -> int:
    """Decimals of the currency's minor unit; KeyError when there is no such currency.

    >>> exponent("EUR"), exponent("JPY"), exponent("KWD")
    (2, 0, 3)
    """
    return _EXPONENTS[code]
