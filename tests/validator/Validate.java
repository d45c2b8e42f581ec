// Validates FHIR STU3 resources by HAPI FHIR: a line for each finding, file, severity, place and text.
// Profiles of the NHS are not at hand here, so that only FHIR's own rules are checked.

import ca.uhn.fhir.context.FhirContext;
import ca.uhn.fhir.context.support.DefaultProfileValidationSupport;
import ca.uhn.fhir.validation.FhirValidator;
import ca.uhn.fhir.validation.SingleValidationMessage;
import java.nio.file.Files;
import java.nio.file.Path;
import org.hl7.fhir.common.hapi.validation.support.CommonCodeSystemsTerminologyService;
import org.hl7.fhir.common.hapi.validation.support.InMemoryTerminologyServerValidationSupport;
import org.hl7.fhir.common.hapi.validation.support.ValidationSupportChain;
import org.hl7.fhir.common.hapi.validation.validator.FhirInstanceValidator;

public class Validate {
    public static void main(String[] files) throws Exception {
        FhirContext context = FhirContext.forDstu3();
        FhirInstanceValidator instance = new FhirInstanceValidator(new ValidationSupportChain(
            new DefaultProfileValidationSupport(context),
            new CommonCodeSystemsTerminologyService(context),
            new InMemoryTerminologyServerValidationSupport(context)));
        instance.setAnyExtensionsAllowed(true);
        instance.setErrorForUnknownProfiles(false);
        FhirValidator validator = context.newValidator().registerValidatorModule(instance);
        for (String file : files) {
            String resource = Files.readString(Path.of(file));
            for (SingleValidationMessage found : validator.validateWithResult(resource).getMessages()) {
                System.out.println(String.join(
                    "\t", file, found.getSeverity().toString(), found.getLocationString(), found.getMessage()));
            }
        }
    }
}
